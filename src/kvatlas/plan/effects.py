"""What a recommended change really does: measured by replaying it, and said as it is.

Owns: trying the changes of the rules that fired, the effect of the best, and changing a finding's
tone when its change does nothing or harm. Leaves to others: replays and budget (`what_if`), what
counts as better (`compare`), which rules fired (`rules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from kvatlas.errors import InputError
from kvatlas.measure import Figures
from kvatlas.plan.compare import Moved, Outcome, compare
from kvatlas.plan.rules import Change, Fired, order
from kvatlas.plan.setup import Setup
from kvatlas.plan.what_if import WhatIf
from kvatlas.plan.words import from_to
from kvatlas.report.run_document import Effect, Finding
from kvatlas.workload import Workload

__all__ = ["measure_effects", "without_effects"]

_RANKS = ("gain", "trade", "nothing", "worse")
_PRICED_WEIGHT = 0.5
"""A change that costs memory must win twice as much as one that costs nothing."""


@dataclass(slots=True)
class _Case:
    """A finding with the changes that can be tried for it, and what came of them."""

    fired: Fired
    candidates: list[tuple[Change, Setup]]
    refusals: list[str]
    tried: list[tuple[Change, Setup, Outcome]] = field(default_factory=list)
    why_not: str = ""


def measure_effects(fired: Sequence[Fired], what_if: WhatIf) -> tuple[Finding, ...]:
    """Return the findings with the measured effect of their best change, in their new order.

    The first change of every finding is tried before the second of any, the most important finding
    first, so that a small budget goes where most can be gained.
    """
    cases = [_case(one, what_if) for one in fired]
    if any(case.candidates for case in cases):
        before = what_if.before()
        rounds = max(len(case.candidates) for case in cases)
        for number in range(rounds):
            for case in cases:
                if number >= len(case.candidates):
                    continue
                if before.figures is None:
                    case.why_not = before.why_not
                else:
                    _try(case, number, before.figures, what_if)
    judged = [(_judged(case, what_if), case) for case in cases]
    # What was measured goes before what was estimated.
    judged.sort(key=lambda pair: (order(pair[0], _won(pair[1])), -pair[1].fired.score))
    return tuple(_told_once([finding for finding, _ in judged]))


def without_effects(fired: Sequence[Fired], setup: Setup | None, why: str) -> tuple[Finding, ...]:
    """Return the findings with the change that each would try first, and why none was replayed.

    Without `setup` no value can be named, so the findings carry no change either.
    """
    findings = []
    for one in fired:
        candidates = [] if setup is None else _candidates(one, setup, None)[0]
        finding = one.finding
        if one.rule.changes:
            finding = replace(finding, effect_note=_sentence(f"not replayed: {why}"))
        if candidates and setup is not None:
            finding = replace(finding, change=candidates[0][1].change_from(setup))
        findings.append(finding)
    return tuple(findings)


def _case(fired: Fired, what_if: WhatIf) -> _Case:
    return _Case(fired, *_candidates(fired, what_if.setup, what_if.workload))


def _candidates(
    fired: Fired, setup: Setup, workload: Workload | None
) -> tuple[list[tuple[Change, Setup]], list[str]]:
    """Return the changes that this engine, model and workload allow, and why not the others."""
    candidates, refusals = [], []
    for change in fired.rule.changes:
        value = change.to(fired.reading)
        if value is None:
            continue
        if change.needs_priorities and workload is not None and not workload.priority.any():
            refusals.append("the requests carry no priorities")
            continue
        try:
            changed = setup.with_(change.setting, value)
        except InputError as error:
            refusals.append(str(error))
            continue
        if changed.flags() != setup.flags():
            candidates.append((change, changed))
    return candidates, refusals


def _try(case: _Case, number: int, before: Figures, what_if: WhatIf) -> None:
    change, setup = case.candidates[number]
    rule = case.fired.rule
    trial = what_if.trial(setup)
    if trial.figures is None:
        case.why_not = case.why_not or trial.why_not
        return
    outcome = compare(before, trial.figures, rule.moves, rule.whither)
    if outcome is None:
        case.why_not = case.why_not or "neither replay has the figure that should move"
    else:
        case.tried.append((change, setup, outcome))


def _judged(case: _Case, what_if: WhatIf) -> Finding:
    """Return the finding as its replays leave it: with their numbers, and the tone they allow."""
    finding, rule, before = case.fired.finding, case.fired.rule, what_if.setup
    if not rule.changes:
        return finding
    if not case.tried:
        return _unmeasured(case, before)
    tried = _best_first(case)
    change, setup, outcome = tried[0]
    flags = setup.change_from(before)
    notes = []
    tone, title = finding.tone, finding.title
    proposed: str | None = flags
    if outcome.verdict == "gain":
        if outcome.won and not change.price:
            tone = "act"
        if rule.whither == "keep":
            notes.append(f"{flags} was tried: {_from_to(outcome.target)}: nothing is lost")
    elif outcome.verdict == "trade":
        tone = "watch"
        notes.append("it has a price: " + ", ".join(map(_from_to, outcome.spoilt)))
    else:
        tone, proposed = rule.refuted_tone, None
        title = case.fired.reading.sentence(rule.refuted_title) or title
        notes.append(_in_vain(flags, outcome))
    if change.price and proposed is not None:
        notes.append(f"it takes {change.price}")
    span = what_if.workload.tokens_per_id
    if change.setting == "block_size" and setup["block_size"] < span:
        notes.append(f"the trace tells prompts apart every {span} tokens: it may be more")
    for _, other, result in tried[1:]:
        notes.append(_also(other.change_from(before), result))
    if case.why_not:
        notes.append(f"not every change was tried: {case.why_not.removeprefix('not replayed: ')}")
    return replace(
        finding,
        tone=tone,
        title=title,
        change=proposed,
        effect=_effect(outcome, setup),
        effect_note=" ".join(map(_sentence, notes)),
    )


def _best_first(case: _Case) -> list[tuple[Change, Setup, Outcome]]:
    def rank(one: tuple[Change, Setup, Outcome]) -> tuple[int, float]:
        change, _, outcome = one
        weight = _PRICED_WEIGHT if change.price else 1.0
        return _RANKS.index(outcome.verdict), -weight * outcome.better

    return sorted(case.tried, key=rank)


def _won(case: _Case) -> float:
    """Return what the change that the finding names wins, 0 when none does or none was tried."""
    outcome = _best_first(case)[0][2] if case.tried else None
    return outcome.won if outcome is not None and outcome.verdict in ("gain", "trade") else 0.0


def _told_once(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings; one whose change an earlier one names already says so first."""
    named: set[str] = set()
    for finding in findings:
        change = finding.change
        if change is not None and finding.effect is not None:
            if change in named:
                note = f"The same change as above. {finding.effect_note}".rstrip()
                finding = replace(finding, effect_note=note)
            named.add(change)
        yield finding


def _unmeasured(case: _Case, before: Setup) -> Finding:
    finding = case.fired.finding
    if case.candidates:
        change = case.candidates[0][1].change_from(before)
        return replace(finding, change=change, effect_note=_sentence(case.why_not))
    why = "; ".join(dict.fromkeys(case.refusals)) or "the settings that could help are used up"
    # Nothing can be done about it here, so nobody is asked to act.
    return replace(finding, tone="watch", effect_note=_sentence(f"nothing to try: {why}"))


def _effect(outcome: Outcome, setup: Setup) -> Effect:
    target = outcome.target
    return Effect(
        figure=target.figure,
        before=target.before,
        after=target.after,
        command=setup.command(),
        others=tuple((moved.figure, moved.before, moved.after) for moved in outcome.others),
    )


def _in_vain(flags: str, outcome: Outcome) -> str:
    text = f"{flags} was tried: {_from_to(outcome.target)}"
    if outcome.spoilt:
        return f"{text}: worse, with " + ", ".join(map(_from_to, outcome.spoilt))
    return f"{text}: " + ("no gain" if outcome.verdict == "nothing" else "worse")


def _also(flags: str, outcome: Outcome) -> str:
    text = f"{flags} was tried, too: {_from_to(outcome.target)}"
    if outcome.spoilt:
        text += ", with " + ", ".join(map(_from_to, outcome.spoilt))
    return text


def _from_to(moved: Moved) -> str:
    return from_to(moved.figure, moved.before, moved.after)


def _sentence(text: str) -> str:
    """Return words as a sentence; a flag at their beginning stays as it is typed."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""
