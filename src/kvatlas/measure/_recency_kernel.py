"""How many other blocks were used since a block was used last: exact, for every block of a pool.

Owns: the order of last uses. Leaves to others: what counts as a use (`_life_kernel`).

Each use gets the next stamp and takes the block's old one away, so `owner[stamp]` is taken for
exactly one stamp per block, and the blocks used since are the taken stamps above. They are counted
on three levels (stamps, groups of 256, groups of 65,536). When the stamps run out, the taken ones
move down together: once per pool's worth of uses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import inlined, kernel
from kvatlas.records import Record, one_record, record_dtype

I32 = NDArray[np.int32]

_BITS = 8
_WIDTH = 1 << _BITS
RECENCY_INFO = record_dtype(top="i8")  # the next stamp; 0 is no stamp


class Recency(NamedTuple):
    """The order of last uses of N blocks; 12 bytes per block."""

    stamps: I32  # (N,) of each block's last use, 0: never used
    owner: I32  # (2N and more,) the block that was used last at this stamp, plus one; 0: none
    taken: I32  # stamps taken in each group of 256
    taken_wide: I32  # and in each of 65,536
    info: Record  # RECENCY_INFO


def make_recency(blocks: int) -> Recency:
    """Return the order of `blocks` blocks that nobody has used."""
    groups = 2 + 2 * blocks // _WIDTH
    wide = 1 + groups // _WIDTH
    return Recency(
        stamps=np.zeros(blocks, np.int32),
        owner=np.zeros(groups * _WIDTH, np.int32),
        taken=np.zeros(wide * _WIDTH, np.int32),
        taken_wide=np.zeros(wide, np.int32),
        info=one_record(RECENCY_INFO, top=1),
    )


@inlined
def use(recency: Recency, block: int) -> None:
    """Make `block` the one used last; O(1) amortised."""
    if recency.info.top == recency.owner.shape[0]:
        _move_down(recency)
    old = recency.stamps[block]
    if old != 0:
        recency.owner[old] = 0
        recency.taken[old >> _BITS] -= 1
        recency.taken_wide[old >> 2 * _BITS] -= 1
    top = recency.info.top
    recency.info.top = top + 1
    recency.stamps[block] = top
    recency.owner[top] = block + 1
    recency.taken[top >> _BITS] += 1
    recency.taken_wide[top >> 2 * _BITS] += 1


@kernel
def used_since(recency: Recency, stamp: int) -> int:
    """Count the blocks whose last use is after `stamp`; O(512 + stamps / 65,536)."""
    group = (stamp >> _BITS) + 1
    wide = (group >> _BITS) + 1
    count = 0
    # Nothing is taken at or above `top`, and the arrays end with whole groups.
    for at in range(stamp + 1, group << _BITS):
        count += 1 if recency.owner[at] != 0 else 0
    for at in range(group, wide << _BITS):
        count += recency.taken[at]
    for at in range(wide, recency.taken_wide.shape[0]):
        count += recency.taken_wide[at]
    return count


@kernel
def _move_down(recency: Recency) -> None:
    """Number the taken stamps afresh from 1, in their order."""
    owner, taken, taken_wide = recency.owner, recency.taken, recency.taken_wide
    for at in range(taken.shape[0]):
        taken[at] = 0
    for at in range(taken_wide.shape[0]):
        taken_wide[at] = 0
    top = 1
    for at in range(1, owner.shape[0]):
        block = owner[at]
        if block != 0:
            owner[at] = 0
            owner[top] = block
            recency.stamps[block - 1] = top
            taken[top >> _BITS] += 1
            taken_wide[top >> 2 * _BITS] += 1
            top += 1
    recency.info.top = top
