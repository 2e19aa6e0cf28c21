"""Tables of one moment: pinned segments, who holds what, private pools.

Owns: the rows. Leaves to others: getting there (`scene`), the stacks that pin
(`AllocatorMoment.pinning_stacks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device import AllocatorMoment
from kvatlas.device.attribution import held_by_stack

__all__ = [
    "MOST_ROWS",
    "Holder",
    "PinnedSegment",
    "PrivatePool",
    "holders",
    "pinned_segments",
    "private_pools",
]

MOST_ROWS = 12
"""Rows that a table keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The live blocks of one stack: how many, and their bytes."""

    stack: int
    blocks: int
    held_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSegment:
    """A segment with free bytes that live blocks pin.

    Attributes:
        address, size_bytes: the segment. free_bytes: free in it; largest_bytes: in one piece.
        live_blocks, live_bytes: what pins it. smallest_bytes, stack: the smallest of those blocks
            and where it was allocated, 0: not known.
    """

    address: int
    size_bytes: int
    free_bytes: int
    largest_bytes: int
    live_blocks: int
    live_bytes: int
    smallest_bytes: int
    stack: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePool:
    """A memory pool of a CUDA graph, or of whoever made it."""

    pool: tuple[int, int]
    segments: int
    reserved_bytes: int
    active_bytes: int


def pinned_segments(moment: AllocatorMoment, which: NDArray[np.int64]) -> tuple[PinnedSegment, ...]:
    """Return those of the segments `which` that have most free bytes; O(n log n)."""
    order = np.argsort(-moment.free_bytes()[which], kind="stable")[:MOST_ROWS]
    return tuple(_segment(moment, int(at)) for at in which[order])


def _segment(moment: AllocatorMoment, at: int) -> PinnedSegment:
    blocks = slice(int(moment.first_block[at]), int(moment.first_block[at + 1]))
    sizes, free = moment.block_bytes[blocks], moment.block_state[blocks] == 0
    live = np.flatnonzero(~free)
    smallest = live[np.argmin(sizes[live])]
    return PinnedSegment(
        address=int(moment.segment_address[at]),
        size_bytes=int(moment.segment_bytes[at]),
        free_bytes=int(sizes[free].sum()),
        largest_bytes=int(sizes[free].max(initial=0)),
        live_blocks=int(live.size),
        live_bytes=int(sizes[live].sum()),
        smallest_bytes=int(sizes[smallest]),
        stack=int(moment.block_stack[blocks][smallest]),
    )


def holders(moment: AllocatorMoment) -> tuple[Holder, ...]:
    """Return the stacks whose live blocks hold most; O(n log n)."""
    held = held_by_stack(moment)
    order = np.argsort(-held.held_bytes, kind="stable")[:MOST_ROWS]
    return tuple(
        Holder(
            stack=int(held.stack[one]),
            blocks=int(held.blocks[one]),
            held_bytes=int(held.held_bytes[one]),
        )
        for one in order
    )


def private_pools(
    moment: AllocatorMoment, names: tuple[tuple[int, int], ...]
) -> tuple[PrivatePool, ...]:
    """Return the private pools, the largest first. `names`: the snapshot's pools. O(n)."""
    segment = np.repeat(np.arange(moment.segment_bytes.size), np.diff(moment.first_block))
    active = np.where(moment.block_state != 0, moment.block_bytes, 0)
    per_segment = np.bincount(segment, weights=active, minlength=moment.segment_bytes.size)
    found = []
    for pool in np.unique(moment.segment_pool[moment.segment_pool != 0]).tolist():
        mine = moment.segment_pool == pool
        found.append(
            PrivatePool(
                pool=names[pool],
                segments=int(np.count_nonzero(mine)),
                reserved_bytes=int(moment.segment_bytes[mine].sum()),
                active_bytes=int(per_segment[mine].sum()),
            )
        )
    return tuple(sorted(found, key=lambda one: -one.reserved_bytes))
