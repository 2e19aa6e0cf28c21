"""The state of a placement: arrays in one NamedTuple.

Owns: the names, shapes and dtypes of everything that a placement changes. Leaves to others: the
rules that change it (the other kernels here) and its first state (`build`).

Sizes: N block ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.records import Record, record_dtype
from kvatlas.runs._bit_tree_kernel import BitTree
from kvatlas.runs._run_index_kernel import Runs

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NONE = -1
"""No block."""

INFO = record_dtype(
    code="i8",  # see `_codes_kernel`
    any_free="i8",  # by address: 1 among all free blocks, 0 among those that cache nothing
    members="i8",  # by address: ids in the set that it chooses from
    window_ratio="f8",  # window: blocks looked at for each that is needed, at least
    most_ratio="f8",  # and at most
    slack_blocks="i8",  # window: between these two, as many more than are needed
    short_blocks="i8",  # window: the longest run that is left out
    follow_blocks="i8",  # window: how far from the queue's head a decode's next block may lie
)


class MaxTree(NamedTuple):
    """Numbers at places 0 .. n - 1, and the greatest of each 16, of each 256, and so on."""

    values: I32  # all levels, the lowest first
    starts: I64  # (levels + 1,) where each level begins


class Placement(NamedTuple):
    """Everything that one placement owns; what it does not use has one element.

    The set that the placements by address choose from is `free` (first-fit and best-fit) or
    `pieces` (buddy).
    """

    info: Record  # INFO
    chosen: BitTree  # working space, empty between calls: a set of ids
    spans: I64  # (N // 2 + 2,) working space: its runs
    free: Runs  # the set and its runs
    lengths: MaxTree  # first-fit: at the first id of each run its length, else 0
    sizes: BitTree  # best-fit: the runs by length, then address: see `_best_fit_kernel`
    size_starts: I64  # (N + 2,) where in `sizes` each length begins
    pieces: BitTree  # buddy: the free pieces by order, then address: see `_buddy_kernel`
    piece_starts: I64  # (orders + 1,) where in `pieces` each order begins
