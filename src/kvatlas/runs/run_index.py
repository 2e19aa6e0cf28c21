"""`RunIndex`: the maximal runs of consecutive ids in a set that changes one id at a time.

Owns: its making, its check, and its face. Leaves to others: the changes (`_run_index_kernel`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError
from kvatlas.records import one_record
from kvatlas.runs._bit_tree_kernel import BitTree, fill_tree, make_tree
from kvatlas.runs._run_index_kernel import Runs, change_members, run_around
from kvatlas.runs._words_kernel import ORDERS, RUNS, Lengths

__all__ = ["RunIndex", "make_lengths", "make_runs", "run_lengths"]

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


def make_lengths() -> Lengths:
    """Return the lengths of no runs."""
    return Lengths(one_record(RUNS), np.zeros(ORDERS, np.int64), np.zeros(ORDERS, np.int64))


def make_runs(members: Flags) -> Runs:
    """Return the runs of the blocks where `members`, (N,), is true; O(N)."""
    gaps, lengths = make_tree(members.size + 2), make_tree(members.size + 1)
    fill_tree(gaps, np.concatenate(([True], ~members, [True])))
    with_length = np.bincount(run_lengths(members), minlength=members.size + 1).astype(np.int32)
    fill_tree(lengths, with_length > 0)
    runs = Runs(gaps, lengths, with_length, make_lengths())
    for name, value in _lengths_of(with_length).items():
        if name in ("by_order", "with_bit"):
            getattr(runs.seen, name)[:] = value
        else:
            setattr(runs.seen.runs, name, int(value))
    return runs


def run_lengths(members: Flags) -> I64:
    """Return the lengths of the maximal runs of true, in order; O(N)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], members, [False])).astype(np.int8)))
    return np.diff(edges)[::2]


def _lengths_of(with_length: NDArray[np.int32]) -> dict[str, I64]:
    lengths = np.flatnonzero(with_length)
    times = with_length[lengths].astype(np.int64)
    bits = (lengths[:, None] >> np.arange(ORDERS)) & 1
    highest = ORDERS - 1 - np.argmax(bits[:, ::-1], axis=1)
    return {
        "count": times.sum(),
        "members": (times * lengths).sum(),
        "largest": lengths.max(initial=0),
        "by_order": np.bincount(highest, weights=times, minlength=ORDERS).astype(np.int64),
        "with_bit": (times[:, None] * bits).sum(axis=0),
    }


class RunIndex:
    """The runs of a set of ids 0 .. N - 1: ends, counts by length and the longest, always exact.

    Memory: 4.5 bytes per id. Adding and removing: O(log64 N).
    """

    def __init__(self, size: int, members: Flags | None = None) -> None:
        self.size = size
        self.state = make_runs(np.zeros(size, bool) if members is None else members)

    def add(self, ids: Iterable[int]) -> None:
        """Put ids into the set; those that are there stay. Raises: IndexError outside of it."""
        change_members(self.state, self._ids(ids), 1)

    def remove(self, ids: Iterable[int]) -> None:
        """Take ids out of the set. Raises: IndexError outside of it."""
        change_members(self.state, self._ids(ids), 0)

    def _ids(self, ids: Iterable[int]) -> NDArray[np.int32]:
        array = np.array(list(ids), np.int64)
        if array.size and not (array.min() >= 0 and array.max() < self.size):
            raise IndexError(f"ids run from 0 to {self.size - 1}")
        return array.astype(np.int32)

    def around(self, block: int) -> tuple[int, int]:
        """Return (first id, length) of the run that holds `block`, length 0 if none; O(log64 N)."""
        if not 0 <= block < self.size:
            raise IndexError(f"ids run from 0 to {self.size - 1}")
        start, length = run_around(self.state, block)
        return int(start), int(length)

    def __len__(self) -> int:
        return int(self.state.seen.runs.members)

    @property
    def count(self) -> int:
        """How many runs there are."""
        return int(self.state.seen.runs.count)

    @property
    def largest(self) -> int:
        """The length of the longest run, 0 without any."""
        return int(self.state.seen.runs.largest)

    def with_length(self, length: int) -> int:
        """Return how many runs have this length; O(1)."""
        return int(self.state.with_length[length]) if 0 < length <= self.size else 0

    def members(self) -> Flags:
        """Return (N,) who is in the set; O(N)."""
        return ~self._bits(self.state.gaps, self.size + 2)[1:-1]

    def check(self) -> None:
        """Compare everything with the lowest level of bits; O(N). Raises: InvariantError."""
        gaps = self._bits(self.state.gaps, self.size + 2)
        if not (gaps[0] and gaps[-1]):
            raise InvariantError("the set has no ends")
        expected = make_runs(~gaps[1:-1])
        for name, ours, theirs in (
            ("hierarchy of gaps", self.state.gaps.words, expected.gaps.words),
            ("hierarchy of lengths", self.state.lengths.words, expected.lengths.words),
            ("counts by length", self.state.with_length, expected.with_length),
            ("counts by order", self.state.seen.by_order, expected.seen.by_order),
            ("counts by bit", self.state.seen.with_bit, expected.seen.with_bit),
        ):
            if not np.array_equal(ours, theirs):
                raise InvariantError(f"the {name} does not follow from the set")
        for name in ("count", "members", "largest"):
            held, seen = (int(getattr(r.seen.runs, name)) for r in (self.state, expected))
            if held != seen:
                raise InvariantError(f"{name} is {held}, the set says {seen}")

    @staticmethod
    def _bits(tree: BitTree, size: int) -> Flags:
        words = tree.words[: int(tree.starts[1])].astype("<u8")
        return np.unpackbits(words.view(np.uint8), bitorder="little")[:size].astype(bool)
