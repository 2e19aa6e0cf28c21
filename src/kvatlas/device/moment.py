"""The allocator at one moment: every segment and block, who holds it, and what it pins.

Owns: `AllocatorMoment`, how it is read off the twin's nodes, and the attribution of stuck bytes to
stacks. Leaves to others: getting there (`twin`), pictures of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import FREE, HELD, NONE, PENDING, UNMAPPED, UNUSED, Twin
from kvatlas.device.operations import Places

__all__ = ["AllocatorMoment", "PinningStack", "moment_of"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
_INACTIVE = 0
_STATE_OF = np.zeros(UNMAPPED + 1, np.uint8)
_STATE_OF[[FREE, HELD, PENDING]] = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PinningStack:
    """What the live blocks of one stack keep from going back to the driver.

    Attributes:
        stack: its number in the snapshot's stacks; 0: not known.
        blocks, held_bytes: its live blocks in segments that have free bytes, and their bytes.
        alone_bytes: free bytes of segments that nobody else pins: would go if it let go.
        shared_bytes: free bytes of segments that others pin, too; counted for each of them.
        segments: how many it pins.
    """

    stack: int
    blocks: int
    held_bytes: int
    alone_bytes: int
    shared_bytes: int
    segments: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AllocatorMoment:
    """One device's memory after an event, in order of address.

    Attributes:
        event: the event, -1 for the time before the first one.
        segment_address, segment_bytes, segment_stream, segment_pool, segment_small,
            segment_expandable: (segments,); a run of mapped pages is one.
        first_block: (segments + 1,) a segment's blocks are those from first_block[i] on, up to but
            without first_block[i + 1].
        block_address, block_bytes, block_requested_bytes: (blocks,)
        block_state: (blocks,) 0 inactive, 1 allocated, 2 freed but in use by another stream.
        block_stack: (blocks,) where it was allocated; 0: inactive, or not known.
        block_event: (blocks,) the event that allocated it; -1: inactive, or before the trace.
    """

    event: int
    segment_address: I64
    segment_bytes: I64
    segment_stream: I64
    segment_pool: I64
    segment_small: NDArray[np.bool_]
    segment_expandable: NDArray[np.bool_]
    first_block: I64
    block_address: I64
    block_bytes: I64
    block_requested_bytes: I64
    block_state: U8
    block_stack: I64
    block_event: I64

    @property
    def reserved_bytes(self) -> int:
        """Bytes from the driver."""
        return int(self.segment_bytes.sum())

    @property
    def active_bytes(self) -> int:
        """Bytes in blocks that somebody uses."""
        return int(self.block_bytes[self.block_state != _INACTIVE].sum())

    def free_bytes(self) -> I64:
        """Return the free bytes of every segment; (segments,)."""
        free = np.where(self.block_state == _INACTIVE, self.block_bytes, 0)
        return self._per_segment(free)

    def pinned(self) -> NDArray[np.bool_]:
        """Return which segments have free bytes that a live block keeps from the driver."""
        live = self._per_segment((self.block_state != _INACTIVE).astype(np.int64))
        return (live > 0) & (self.free_bytes() > 0)

    def pinning_stacks(self) -> tuple[PinningStack, ...]:
        """Return who pins free bytes, the one that pins most alone first; O(n log n).

        Of an expandable segment's run all free bytes count, whole pages too.
        """
        pinned, free = self.pinned(), self.free_bytes()
        segment = np.repeat(np.arange(self.segment_bytes.size), np.diff(self.first_block))
        live = np.flatnonzero((self.block_state != _INACTIVE) & pinned[segment])
        stacks, stack = np.unique(self.block_stack[live], return_inverse=True)
        pairs = np.unique(np.stack([segment[live], stack.reshape(-1)], axis=1), axis=0)
        pinners = np.bincount(pairs[:, 0], minlength=free.size)
        found = []
        for at, number in enumerate(stacks.tolist()):
            mine = pairs[pairs[:, 1] == at, 0]
            alone = pinners[mine] == 1
            blocks = live[stack.reshape(-1) == at]
            found.append(
                PinningStack(
                    stack=number,
                    blocks=int(blocks.size),
                    held_bytes=int(self.block_bytes[blocks].sum()),
                    alone_bytes=int(free[mine[alone]].sum()),
                    shared_bytes=int(free[mine[~alone]].sum()),
                    segments=int(mine.size),
                )
            )
        return tuple(sorted(found, key=lambda one: (-one.alone_bytes, -one.shared_bytes)))

    def _per_segment(self, of_blocks: I64) -> I64:
        if not of_blocks.size:
            return np.zeros(0, np.int64)
        return np.add.reduceat(of_blocks, self.first_block[:-1])


def moment_of(
    twin: Twin, places: Places, stack_of: I64, event_of: I64, event: int
) -> AllocatorMoment:
    """Return what a twin holds; O(nodes log nodes).

    `stack_of`, `event_of`: (allocations,) where and when each was made.
    """
    state = twin.nodes["state"]
    order = np.flatnonzero((state != UNUSED) & (state != UNMAPPED))
    order = order[np.argsort(twin.nodes["offset"][order], kind="stable")]
    nodes = twin.nodes[order]
    before = nodes["before"]
    first = np.flatnonzero((before == NONE) | (state[before] == UNMAPPED))
    heads = nodes[first]
    shelves = twin.shelves[heads["shelf"]]
    inactive, owner = nodes["state"] == FREE, nodes["owner"]
    lengths = nodes["length"].astype(np.int64)
    return AllocatorMoment(
        event=event,
        segment_address=heads["offset"].astype(np.int64),
        segment_bytes=np.add.reduceat(lengths, first) if first.size else lengths,
        segment_stream=places.streams[heads["shelf"] // 2],
        segment_pool=places.pools[heads["shelf"] // 2],
        segment_small=shelves["small"] != 0,
        segment_expandable=heads["space"] != NONE,
        first_block=np.append(first, order.size),
        block_address=nodes["offset"].astype(np.int64),
        block_bytes=lengths,
        block_requested_bytes=np.where(inactive, 0, nodes["asked"]),
        block_state=_STATE_OF[nodes["state"]],
        block_stack=np.where(inactive, 0, stack_of[owner]),
        block_event=np.where(inactive, NONE, event_of[owner]),
    )
