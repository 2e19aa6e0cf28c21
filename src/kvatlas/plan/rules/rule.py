"""A rule as data: when it fires, what it says, what it would change, and what should move.

Owns: the shapes, and firing one rule on a `Reading`. Leaves to others: the rules themselves, their
order (`kvatlas.plan.rules`), and whether a change helps (`kvatlas.plan.effects`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kvatlas.plan.rules.reading import DERIVED, Reading
from kvatlas.plan.setup import Value
from kvatlas.report.run_document import Finding

__all__ = ["Change", "Clause", "Fired", "Gain", "Rule", "fire"]

Tone = Literal["act", "watch", "good"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition: a figure at least, or at most, a bound; and why the bound lies there.

    A figure that is not known fulfils no clause.
    """

    figure: str
    side: Literal["at least", "at most"]
    bound: float
    why: str

    def holds(self, reading: Reading) -> bool:
        """Return whether the figure is known and on the right side; the bound itself is."""
        value = reading[self.figure]
        if value is None:
            return False
        return value >= self.bound if self.side == "at least" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Change:
    """A setting to try.

    Attributes:
        setting: its key in the JSON's `config`.
        says: the flag and how its value comes about, for the documentation.
        to: the new value, or `None` where there is nothing to change.
        price: what it costs besides, in words; empty when nothing.
        needs_priorities: only sensible when the requests carry different priorities.
    """

    setting: str
    says: str
    to: Callable[[Reading], Value | None]
    price: str = ""
    needs_priorities: bool = False


@dataclass(frozen=True, slots=True)
class Gain:
    """How findings are ordered: a share from 0 to 1 of what could be had, times a weight."""

    figure: str
    weight: float
    why: str

    def of(self, reading: Reading) -> float:
        """Return the score; 0 when the figure is not known."""
        return self.weight * (reading[self.figure] or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recommendation.

    Attributes:
        name: what findings are called by.
        means: one sentence for the documentation.
        tone: `act`, `watch` or `good`, as long as no replay says otherwise.
        clauses: all must hold.
        title: one sentence, a template of `Reading.sentence`; all its figures must be known.
        evidence: sentences; one whose figures are not known is left out.
        changes: what to try, in order of preference.
        moves: measurements that should move, the first that both replays have counts; and whither.
            `keep` means that a cheaper setting must not make it worse.
        gain: where the finding stands among others.
        silenced_by: rules that say the same with more reason.
        alone: only when no rule of another tone than `good` has fired.
        refuted_title, refuted_tone: what to say when every change was tried in vain.
        advice: what to do where no flag helps.
    """

    name: str
    means: str
    tone: Tone
    clauses: tuple[Clause, ...]
    title: str
    evidence: tuple[str, ...]
    gain: Gain
    changes: tuple[Change, ...] = ()
    moves: tuple[str, ...] = ()
    whither: Literal["up", "down", "keep"] = "down"
    silenced_by: tuple[str, ...] = ()
    alone: bool = False
    refuted_title: str = ""
    refuted_tone: Literal["watch", "good"] = "watch"
    advice: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The figures that the rule reads, settings and what follows from others resolved."""
        import string

        named = [clause.figure for clause in self.clauses] + [self.gain.figure]
        for template in (self.title, self.refuted_title, *self.evidence):
            named += [field for _, field, _, _ in string.Formatter().parse(template) if field]
        found: dict[str, None] = {}
        for name in named:
            derived = DERIVED.get(name)
            found |= dict.fromkeys((name,) if derived is None else derived.needs)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired on a reading."""

    rule: Rule
    reading: Reading
    finding: Finding
    score: float


def fire(rule: Rule, reading: Reading) -> Fired | None:
    """Return the rule's finding on a run; None when a clause fails or a figure is not known."""
    if not all(clause.holds(reading) for clause in rule.clauses):
        return None
    title = reading.sentence(rule.title)
    if title is None:
        return None
    evidence = [reading.sentence(template) for template in rule.evidence]
    finding = Finding(
        rule=rule.name,
        tone=rule.tone,
        title=title,
        evidence=tuple(sentence for sentence in evidence if sentence is not None),
        effect_note=rule.advice,
    )
    return Fired(rule, reading, finding, rule.gain.of(reading))
