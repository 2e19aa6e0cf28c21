"""The recommendation engine: rules as data, fired on the figures of a run.

Owns: which rules there are, their order among each other, and `evaluate`. Leaves to others: what a
change really does (`kvatlas.plan.effects`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvatlas.measure import Figures
from kvatlas.plan.rules.contents import CONTENT_RULES
from kvatlas.plan.rules.health import HEALTH_RULES
from kvatlas.plan.rules.misses import MISS_RULES
from kvatlas.plan.rules.pool import POOL_RULES
from kvatlas.plan.rules.preemption import PREEMPTION_RULES
from kvatlas.plan.rules.reading import DERIVED, Reading, facts_of
from kvatlas.plan.rules.rule import Change, Clause, Fired, Gain, Rule, fire
from kvatlas.plan.rules.waiting import WAITING_RULES
from kvatlas.report.run_document import Finding

__all__ = [
    "DERIVED",
    "HEALTH_RULES",
    "LEAST_SHOWN",
    "MOST_SHOWN",
    "RULES",
    "Change",
    "Clause",
    "Fired",
    "Gain",
    "Reading",
    "Rule",
    "evaluate",
    "facts_of",
    "filled",
    "fired_rules",
    "order",
]

LEAST_SHOWN = 3
"""Findings that a verdict shows at least, if there is anything good to say: what to leave alone."""
MOST_SHOWN = 5
"""Findings that a verdict shows: what comes after the fifth is not read."""

RULES: tuple[Rule, ...] = MISS_RULES + CONTENT_RULES + PREEMPTION_RULES + WAITING_RULES + POOL_RULES

_TONES = ("act", "watch", "good")


def evaluate(
    figures: Figures, config: Mapping[str, Any], workload: Mapping[str, Any] | None = None
) -> tuple[Finding, ...]:
    """Return what a reader should know first of a run, by what can be gained; at most five.

    Nothing is replayed here: the findings carry no change and no effect.

    Args:
        figures: measurements by name.
        config, workload: as in the JSON of a replay; `facts_of(workload)` may add to the latter.
    """
    fired = fired_rules(figures, config, workload)
    return tuple(one.finding for one in fired[:MOST_SHOWN])


def fired_rules(
    figures: Figures, config: Mapping[str, Any], workload: Mapping[str, Any] | None = None
) -> list[Fired]:
    """Return every rule that fired and was not silenced by another, in the order of a verdict."""
    reading = Reading(figures, config, workload)
    fired = [one for rule in RULES if (one := fire(rule, reading)) is not None]
    names = {one.rule.name for one in fired}
    alone = all(one.rule.tone == "good" for one in fired)
    return sorted(
        (
            one
            for one in fired
            if names.isdisjoint(one.rule.silenced_by) and (alone or not one.rule.alone)
        ),
        key=lambda one: order(one.finding, one.score),
    )


def filled(
    findings: tuple[Finding, ...],
    figures: Figures,
    config: Mapping[str, Any],
    workload: Mapping[str, Any] | None = None,
) -> tuple[Finding, ...]:
    """Return `findings`, and what is well while they are fewer than LEAST_SHOWN."""
    reading = Reading(figures, config, workload)
    said = {finding.rule for finding in findings}
    well = [
        one.finding
        for rule in HEALTH_RULES
        if said.isdisjoint(rule.silenced_by) and (one := fire(rule, reading)) is not None
    ]
    return findings + tuple(well[: max(0, LEAST_SHOWN - len(findings))])


def order(finding: Finding, score: float) -> tuple[int, float]:
    """Return the key that sorts findings: by tone, then by what can be gained."""
    return _TONES.index(finding.tone), -score
