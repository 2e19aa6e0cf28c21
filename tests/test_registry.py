"""The look-up of what users choose by name."""

from __future__ import annotations

import pytest

from kvatlas.errors import InputError
from kvatlas.eviction import POLICIES
from kvatlas.placement import PLACEMENTS
from kvatlas.registry import Strategy, named


def test_a_name_finds_its_entry_or_one_line_lists_those_there_are() -> None:
    table = {"one": 1, "two": 2}
    assert named(table, "two", "number") == 2
    with pytest.raises(InputError) as caught:
        named(table, "three", "number", field="count")
    assert str(caught.value) == "count: unknown number (got three); use one of one, two"


@pytest.mark.parametrize("table", [POLICIES, PLACEMENTS])
def test_every_strategy_says_what_it_is(table: dict[str, Strategy]) -> None:
    assert [each.name for each in table.values()] == list(table)
    for each in table.values():
        assert all((each.title, each.summary, each.source))
        assert not each.summary.endswith(".")
    codes = {(each.code, getattr(each, "any_free", False)) for each in table.values()}
    assert len(codes) == len(table)
