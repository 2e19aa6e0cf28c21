"""The page on findings says what the rules say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvatlas.plan import Budget
from kvatlas.plan.compare import FAIR_PRICE, LEAST_RELATIVE, LEAST_SHARE
from kvatlas.plan.rules import HEALTH_RULES, RULES
from kvatlas.plan.rules.table import derived_table, rules_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "findings.md"


@pytest.mark.parametrize(("part", "wanted"), [("rules", rules_table), ("derived", derived_table)])
def test_the_tables_are_those_of_the_rules(part: str, wanted: object) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(f"<!-- {part}: begin -->\n\n(.*)\n\n<!-- {part}: end -->", text, re.DOTALL)
    assert found is not None
    assert callable(wanted)
    table = wanted()
    assert found[1] == table, f"put this between the marks of {PAGE.name}:\n{table}"


def test_every_rule_has_its_section() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [rule.name for rule in RULES + HEALTH_RULES]


def test_the_numbers_in_the_words_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert (
        f"by {LEAST_RELATIVE:.0%} or more, shares by at least {100 * LEAST_SHARE:g} points" in text
    )
    assert FAIR_PRICE == 0.25
    assert "a quarter" in text
    budget = Budget()
    assert (budget.replays, budget.seconds) == (8, 30)
    assert "after eight replays, after thirty seconds" in text
