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

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NONE = -1
"""No block."""

# Placements, by the integer that compiled code branches on.
QUEUE, SORTED, WINDOW, FIRST_FIT, BEST_FIT, BUDDY = range(6)

INFO = record_dtype(
    code="i8",
    window_ratio="f8",  # window: blocks looked at for each that is needed
    follow_blocks="i8",  # window: how far from the queue's head a decode's next block may lie
)


class Placement(NamedTuple):
    """Everything that one placement owns: 4 bytes per block and a bit."""

    info: Record  # INFO
    chosen: BitTree  # working space, empty between calls: a set of ids
    spans: I64  # (N // 2 + 2,) working space: its runs
