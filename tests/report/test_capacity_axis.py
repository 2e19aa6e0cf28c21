"""Capacity as an axis and in words: ticks that a person can read, places within the axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.report.capacity_axis import CapacityAxis, CapacityUnits, short_count

SOME = st.lists(st.integers(0, 10**9), min_size=1, max_size=30)


@given(blocks=SOME.filter(any))
def test_every_capacity_has_a_place(blocks: list[int]) -> None:
    axis = CapacityAxis.over(blocks)
    assert axis.first < axis.last
    places = axis.places(np.array(sorted(blocks)))
    assert (np.diff(places) >= 0).all()
    assert places.min() >= 0
    assert places.max() <= 1 + 1e-9
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks))
    assert all(axis.first <= tick <= axis.last * (1 + 1e-9) for tick in ticks)
    assert len(ticks) <= 13


def test_wide_ranges_are_logarithmic_and_narrow_ones_are_not() -> None:
    wide, narrow = CapacityAxis.over([100, 100_000]), CapacityAxis.over([1000, 4000])
    assert (wide.log, narrow.log) == (True, False)
    assert wide.place(1000) == pytest.approx(1 / 3)
    assert wide.ticks() == [100, 300, 1000, 3000, 10_000, 30_000, 100_000]
    assert narrow.place(2500) == pytest.approx(0.5)
    assert narrow.ticks()[:2] == [1000, 1500]


def test_nothing_stands_at_zero_on_a_logarithmic_axis() -> None:
    axis = CapacityAxis.over([0, 10, 10_000])
    assert (axis.first, axis.log) == (10, True)
    assert axis.place(0) == 0


@pytest.mark.parametrize("only", [0, 1, 500])
def test_one_capacity_stands_within_its_axis(only: int) -> None:
    axis = CapacityAxis.over([only])
    assert 0 <= axis.place(only) < 1


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (1_191_418, "1.19 M"), (999_999, "1 M"),
     (27_027, "27 k"), (10**12, "1 T")],
)  # fmt: skip
def test_short_counts(number: int, text: str) -> None:
    assert short_count(number) == text


def test_units_say_blocks_tokens_and_bytes() -> None:
    assert CapacityUnits(16).words(20_000) == "20,000 blocks (320 k tokens)"
    assert CapacityUnits(16, 2 << 20).words(20_000) == "20,000 blocks (320 k tokens, 39.1 GiB)"
    assert CapacityUnits(512).words(1) == "1 block (512 tokens)"
    assert CapacityUnits(16).memory(5) == ""
