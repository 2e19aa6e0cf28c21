"""The verdict on a run: its findings, with the effect of each change measured where it can be.

Owns: `verdict`, the one call that views' makers need. Leaves to others: rules, replays, words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvatlas.errors import InputError
from kvatlas.measure import Figures
from kvatlas.plan.effects import measure_effects, without_effects
from kvatlas.plan.reload import as_it_was_cut
from kvatlas.plan.rules import MOST_SHOWN, facts_of, filled, fired_rules
from kvatlas.plan.setup import Setup
from kvatlas.plan.what_if import Budget, WhatIf
from kvatlas.report.run_document import Finding
from kvatlas.workload import Workload

__all__ = ["verdict"]

_MUST_AGREE = ("prefix.token_hit_rate", "preemption.count", "allocation.blocks")
"""Figures that two replays of the same requests have in common to the last digit."""
_LAST_DIGITS = 1e-9


def verdict(
    figures: Figures,
    config: Mapping[str, Any],
    workload: Mapping[str, Any],
    requests: Workload | str,
    *,
    before: Figures | None = None,
    budget: Budget | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Finding, ...]:
    """Return three to five findings, by what can be gained, with measured effects.

    Fewer than three only where too little is known to say what is well.

    Args:
        figures: every measurement of the run; what is `None` fires nothing.
        config, workload: as in the JSON of a replay.
        requests: the workload to replay, or why there is none (`reload_workload` gives either).
        before: the run's figures by `replay_figures`, where the caller has them; they save a
            replay.
        budget, on_progress, should_stop: as `WhatIf` takes them.
    """
    facts = dict(workload)
    if isinstance(requests, Workload):
        facts |= facts_of(requests)
    found = _found(
        figures,
        config,
        facts,
        requests,
        before=before,
        budget=budget,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return filled(found, figures, config, facts)


def _found(
    figures: Figures,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    requests: Workload | str,
    *,
    before: Figures | None,
    budget: Budget | None,
    on_progress: Callable[[int, int, str], None] | None,
    should_stop: Callable[[], bool] | None,
) -> tuple[Finding, ...]:
    fired = fired_rules(figures, config, facts)
    if not any(one.rule.changes for one in fired):
        return tuple(one.finding for one in fired[:MOST_SHOWN])
    if isinstance(requests, str):
        setup = Setup(config)
        return without_effects(fired, _usable(setup), requests)[:MOST_SHOWN]
    setup = Setup(as_it_was_cut(config, requests))
    try:
        setup.check()
    except InputError as error:
        return without_effects(fired, None, str(error))[:MOST_SHOWN]
    what_if = WhatIf(
        requests,
        setup,
        before=before,
        budget=budget,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    difference = _difference(figures, what_if.before().figures)
    if difference:
        return without_effects(fired, setup, difference)[:MOST_SHOWN]
    return measure_effects(fired, what_if)[:MOST_SHOWN]


def _usable(setup: Setup) -> Setup | None:
    """Return the settings if they are an engine's, None when a recording says too little."""
    try:
        setup.check()
    except InputError:
        return None
    return setup


def _difference(recorded: Figures, replayed: Figures | None) -> str:
    """Say how a replay under the recorded settings differs from the recording; empty if not."""
    if replayed is None:
        return ""
    for name in _MUST_AGREE:
        old, new = recorded.values.get(name), replayed.values.get(name)
        if old is None or new is None:
            continue
        if abs(old - new) > _LAST_DIGITS * max(1.0, abs(old)):
            return (
                f"the recorded settings do not give the recorded run again ({name} {old:g}, "
                f"replayed {new:g}): the recording is a part, or of another version"
            )
    return ""
