"""`RunIndex` against a plain set of ids, operation by operation, its check after each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fragmentation_model import lengths_of, runs_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvatlas.errors import InvariantError
from kvatlas.jit import COMPILED
from kvatlas.runs import RunIndex
from kvatlas.runs._run_index_kernel import change_span

EXAMPLES, STEPS = (60, 40) if COMPILED else (15, 15)


class RunIndexMachine(RuleBasedStateMachine):
    """Ids come and go, alone and in stretches, also where words of 64 end."""

    @initialize(size=st.one_of(st.integers(1, 9), st.integers(60, 70), st.integers(1, 5000)))
    def start(self, size: int) -> None:
        self.index, self.plain, self.size = RunIndex(size), set[int](), size

    @rule(data=st.data(), length=st.integers(1, 200))
    def add_stretch(self, data: st.DataObject, length: int) -> None:
        start = data.draw(st.integers(0, self.size - 1))
        ids = range(start, min(self.size, start + length))
        self.index.add(ids)
        self.plain |= set(ids)

    @rule(data=st.data(), length=st.integers(1, 70))
    def remove_stretch(self, data: st.DataObject, length: int) -> None:
        start = data.draw(st.integers(0, self.size - 1))
        ids = range(min(self.size, start + length) - 1, start - 1, -1)
        self.index.remove(ids)
        self.plain -= set(ids)

    @rule(data=st.data())
    def scatter(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.integers(0, self.size - 1), max_size=20))
        self.index.add(ids[::2])
        self.plain |= set(ids[::2])
        self.index.remove(ids[1::2])
        self.plain -= set(ids[1::2])

    @rule(data=st.data(), length=st.integers(1, 300))
    def flip_a_span(self, data: st.DataObject, length: int) -> None:
        start = data.draw(st.integers(0, self.size - 1))
        member = start in self.plain
        stop = start + 1
        while stop < min(self.size, start + length) and (stop in self.plain) == member:
            stop += 1
        change_span(self.index.state, start, stop - start, int(not member))
        self.plain ^= set(range(start, stop))

    @rule(data=st.data())
    def look_around(self, data: st.DataObject) -> None:
        block = data.draw(st.integers(0, self.size - 1))
        start, length = self.index.around(block)
        assert ((start, length) in runs_of(self.plain)) == (block in self.plain)
        assert start <= block < start + max(1, length)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "index"):
            return
        self.index.check()
        lengths = lengths_of(self.plain)
        assert len(self.index) == len(self.plain)
        assert self.index.count == len(lengths)
        assert self.index.largest == max(lengths, default=0)
        counted = Counter(lengths)
        for length in {0, 1, 2, *lengths, self.size + 1}:
            assert self.index.with_length(length) == counted[length]
        assert set(np.flatnonzero(self.index.members()).tolist()) == self.plain


TestRunIndex = RunIndexMachine.TestCase
TestRunIndex.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)


def test_it_starts_from_any_set() -> None:
    members = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    index = RunIndex(9, members)
    index.check()
    assert (index.count, index.largest, len(index)) == (3, 3, 6)
    index.add([2])
    assert index.around(0) == (0, 4)


def test_ids_outside_are_refused() -> None:
    index = RunIndex(4)
    for ids in ([4], [-1]):
        with pytest.raises(IndexError):
            index.add(ids)
    with pytest.raises(IndexError):
        index.around(4)


@pytest.mark.parametrize("part", ["gaps", "lengths", "with_length", "seen"])
def test_check_notices(part: str) -> None:
    """GIVEN a broken part WHEN checked THEN it says so."""
    index = RunIndex(300)
    index.add(range(10, 90))
    if part == "gaps":
        index.state.gaps.words[-1] ^= np.uint64(1)
    elif part == "lengths":
        index.state.lengths.words[0] ^= np.uint64(2)
    elif part == "with_length":
        index.state.with_length[80] += 1
    else:
        index.state.seen.runs.largest = 81
    with pytest.raises(InvariantError):
        index.check()
