"""Whose bytes they are at one moment: what each stack holds, and what it keeps stuck.

Owns: how stuck bytes are divided among stacks. Leaves to others: the moment (`moment`), who pins
what alone (`AllocatorMoment.pinning_stacks`), pictures.

A segment goes back only when all stacks with live blocks in it let go, so none of them has more of
its stuck bytes than another: they are divided evenly (which is also the Shapley value of such a
unanimous game).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import SMALL_SEGMENT
from kvatlas.device.moment import AllocatorMoment

__all__ = ["HeldBytes", "StackBytes", "bytes_by_stack", "held_by_stack", "stuck_of_segments"]

I64 = NDArray[np.int64]
_INACTIVE = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeldBytes:
    """Live blocks per stack: (stacks,) each, but `number`: (live blocks,) each one's stack's place.

    `stack` is the snapshot's number, 0: not known. `held_bytes` sums to the active bytes.
    """

    stack: I64
    held_bytes: I64
    blocks: I64
    number: I64


@dataclass(frozen=True, slots=True, eq=False)
class StackBytes:
    """Bytes per stack: (stacks,) each; the numbers are the snapshot's, 0: not known.

    `held` sums to the active bytes, `stuck` to the stuck ones.
    """

    stack: I64
    held_bytes: I64
    stuck_bytes: I64
    blocks: I64


def held_by_stack(moment: AllocatorMoment) -> HeldBytes:
    """Return what every stack with live blocks holds; O(n log n)."""
    live = np.flatnonzero(moment.block_state != _INACTIVE)
    stack, number, blocks = np.unique(
        moment.block_stack[live], return_inverse=True, return_counts=True
    )
    number = number.reshape(-1)
    held = np.zeros(stack.size, np.int64)
    np.add.at(held, number, moment.block_bytes[live])
    return HeldBytes(stack.astype(np.int64), held, blocks.astype(np.int64), number)


def stuck_of_segments(moment: AllocatorMoment, large_page_bytes: int) -> I64:
    """Return (segments,) the free bytes that live blocks keep from the driver; O(blocks).

    None in private pools, whose free bytes are idle, and no whole pages of expandable segments.
    `large_page_bytes`: of expandable segments of the large pool.
    """
    count = moment.segment_bytes.size
    segment = np.repeat(np.arange(count), np.diff(moment.first_block))
    free = np.flatnonzero(moment.block_state == _INACTIVE)
    home, nbytes = segment[free], moment.block_bytes[free]
    page = np.where(moment.segment_small, SMALL_SEGMENT, large_page_bytes)[home]
    start = moment.block_address[free] - moment.segment_address[home]
    pages = np.maximum(0, (start + nbytes) // page * page - -(-start // page) * page)
    kept = nbytes - np.where(moment.segment_expandable[home], pages, 0)
    stuck = np.bincount(home, weights=kept, minlength=count).astype(np.int64)
    live = np.bincount(segment[moment.block_state != _INACTIVE], minlength=count)
    pinned = (live > 0) | moment.segment_expandable
    return np.where(pinned & (moment.segment_pool == 0), stuck, 0)


def bytes_by_stack(moment: AllocatorMoment, large_page_bytes: int) -> StackBytes:
    """Return what every stack with live blocks holds and keeps stuck; O(n log n)."""
    stuck = stuck_of_segments(moment, large_page_bytes)
    segment = np.repeat(np.arange(stuck.size), np.diff(moment.first_block))
    live = np.flatnonzero(moment.block_state != _INACTIVE)
    held = held_by_stack(moment)
    stacks, number = held.stack, held.number
    # Segments and the stacks in them, once each; the first ones take what does not divide.
    pairs = np.unique(segment[live] * max(1, stacks.size) + number)
    home, who = np.divmod(pairs, max(1, stacks.size))
    sharers = np.bincount(home, minlength=stuck.size)
    first = np.flatnonzero(np.diff(home, prepend=-1))
    rank = np.arange(home.size) - np.repeat(first, np.diff(first, append=home.size))
    share, rest = np.divmod(stuck[home], sharers[home])
    shares = np.zeros(stacks.size, np.int64)
    np.add.at(shares, who, share + (rank < rest))
    return StackBytes(stacks, held.held_bytes, shares, held.blocks)
