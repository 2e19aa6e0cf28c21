"""The stack with marks beside a list that is looked through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.errors import InputError, InvariantError
from kvatlas.pressure.hybrid import StackMeter

MARKS = st.lists(st.integers(0, 60), min_size=1, max_size=5, unique=True).map(sorted)


def depth_of(stack: list[int], weights: dict[int, int], key: int) -> int | None:
    """Return the weight of everything from the top down to `key`."""
    if key not in stack:
        return None
    return sum(weights[each] for each in stack[: stack.index(key) + 1])


@given(
    marks=MARKS,
    later=MARKS,
    keys=st.lists(st.integers(0, 25), max_size=150),
    weights=st.lists(st.integers(1, 7), min_size=26, max_size=26),
)
def test_zones_are_those_of_exact_depths(
    marks: list[int], later: list[int], keys: list[int], weights: list[int]
) -> None:
    # GIVEN uses in any order, the marks moved in the middle THEN what each capacity hits is exact
    meter, stack = StackMeter(marks), list[int]()
    weight = dict(enumerate(weights))
    seen: list[int] = []
    forgotten = max(marks)
    for at, key in enumerate(keys):
        if at == len(keys) // 2:
            meter.set_marks(later)
            marks, seen, forgotten = later, [], min(forgotten, max(later))
        depth = depth_of(stack, weight, key)
        meter.count(key)
        if depth is not None and meter.zone_of(key) is not None:
            seen.append(depth)
        stack = [key, *(each for each in stack if each != key)]
        meter.use(key, weight[key])
        meter.check()
        for each in stack:
            depth = depth_of(stack, weight, each)
            assert depth is not None
            zone = next((i for i, mark in enumerate(marks) if depth <= mark), None)
            if depth <= forgotten or zone is None:
                assert meter.zone_of(each) == zone
        for mark in marks:
            assert meter.found_within(mark) == sum(depth <= mark for depth in seen)
    assert meter.found_within(0) == sum(depth <= 0 for depth in seen)


def test_values_decay_and_count() -> None:
    meter = StackMeter([2, 4])
    for key in (1, 2, 3):
        meter.use(key)
    meter.count(1, 3.0)  # two were used since
    meter.count(3, 5.0)
    meter.count(9, 7.0)  # not known
    assert meter.found == [5.0, 3.0]
    meter.decay(0.5)
    assert (meter.found_within(2), meter.found_within(4)) == (2.5, 4.0)


def test_bad_marks_and_broken_books_are_found() -> None:
    for marks in ([], [3, 3], [4, 2], [-1]):
        with pytest.raises(InputError):
            StackMeter(marks)
    meter = StackMeter([3])
    meter.use("a")
    meter._used[0] += 1
    with pytest.raises(InvariantError):
        meter.check()
