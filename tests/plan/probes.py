"""Rules that a test makes up, to see what becomes of their changes."""

from __future__ import annotations

from functools import cache
from typing import Any

from runs import Run, run

from kvatlas.plan import Setup, WhatIf, verdict
from kvatlas.plan.effects import measure_effects
from kvatlas.plan.rules import Change, Clause, Fired, Gain, Reading, Rule
from kvatlas.plan.rules.rule import fire
from kvatlas.report.run_document import Finding
from kvatlas.workload import Workload, generate


@cache
def small_chat() -> Workload:
    """Return the workload of most of these tests."""
    return generate("conversation", seed=1, num_requests=400)


@cache
def thrashing() -> Run:
    """Return it in a cache that is far too small."""
    return run(small_chat(), num_blocks=2000, max_num_seqs=16)


def judged(one: Run, **options: Any) -> tuple[Finding, ...]:
    """Return the verdict on a run."""
    header = one.header
    return verdict(one.figures, header.config, header.workload, one.workload, **options)


def probe(*changes: Change, moves: str = "prefix.token_hit_rate", whither: str = "up") -> Rule:
    """Return a rule that always fires and tries these changes."""
    return Rule(
        name="probe",
        means="",
        tone="act",
        clauses=(Clause("usage.peak", "at most", 1, "always"),),
        title="A probe",
        evidence=("It always fires.",),
        changes=changes,
        moves=(moves,),
        whither=whither,  # type: ignore[arg-type]
        gain=Gain("usage.peak", 1.0, "any"),
        refuted_title="A probe in vain",
    )


def to(setting: str, value: float | bool | str, price: str = "") -> Change:
    """Return the change of a setting to a value, whatever was read."""
    return Change(setting, setting, lambda reading: value, price=price)


def fired_on(one: Run, rule: Rule) -> Fired:
    """Return the rule as it fired on a run."""
    fired = fire(rule, Reading(one.figures, one.config, one.facts))
    assert fired is not None
    return fired


def effect_of(one: Run, rule: Rule, **options: Any) -> Finding:
    """Return what becomes of the rule's finding once its changes were replayed."""
    what_if = WhatIf(one.workload, Setup(one.config), **options)
    (finding,) = measure_effects([fired_on(one, rule)], what_if)
    return finding
