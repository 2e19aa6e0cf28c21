"""What is well fills a verdict that is short, and never takes a place from what is not."""

from __future__ import annotations

import pytest
from runs import FACTS, settings, sheet

from kvatlas.plan import verdict
from kvatlas.plan.rules import HEALTH_RULES, LEAST_SHOWN, evaluate, filled

WELL = {
    "mostly-cold": {"attribution.cold": 0.7},
    "slots-well-used": {"waste.internal_time_weighted": 0.001},
    "few-preemptions": {"preemption.waste": 0.0},
    "queue-not-held-up": {"queue.head_refused_share": 0.0},
}


@pytest.mark.parametrize("name", WELL)
def test_each_is_said_when_it_is_so_and_not_otherwise(name: str) -> None:
    rule = next(rule for rule in HEALTH_RULES if rule.name == name)
    clause = rule.clauses[0]
    worse = clause.bound - 0.01 if clause.side == "at least" else clause.bound + 0.01
    others = {figure: None for values in WELL.values() for figure in values}
    for values, said in ((WELL[name], [name]), ({clause.figure: worse}, [])):
        figures = sheet(**{**others, **values})
        assert [one.rule for one in filled((), figures, settings(), FACTS)] == said


def test_every_one_has_its_case() -> None:
    assert list(WELL) == [rule.name for rule in HEALTH_RULES]


def test_a_verdict_has_three_findings() -> None:
    findings = verdict(sheet(), settings(), FACTS, "no trace")
    assert len(findings) == LEAST_SHOWN
    assert findings[0] == evaluate(sheet(), settings(), FACTS)[0]


def test_what_is_wrong_leaves_no_place() -> None:
    figures = sheet(**{name: value for values in WELL.values() for name, value in values.items()})
    three = evaluate(figures, settings(), FACTS)[:1] * LEAST_SHOWN
    assert filled(three, figures, settings(), FACTS) == three
