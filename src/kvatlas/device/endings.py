"""The twin's blocks beside those of the snapshot, when the trace is over.

Owns: the comparison. Leaves to others: what it is compared for (`twin`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.moment import AllocatorMoment
from kvatlas.device.snapshot import DeviceSnapshot

__all__ = ["Ending", "compare_ending"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ending:
    """Recorded figures at the end, and how many segments and blocks the twin has the same."""

    reserved_bytes: int
    allocated_bytes: int
    segments: int
    segments_equal: int
    blocks: int
    blocks_equal: int


def compare_ending(moment: AllocatorMoment, snapshot: DeviceSnapshot, device: int) -> Ending:
    """Compare every segment and block of one device; O(n log n).

    Blocks: address, bytes, state, and requested bytes of active ones where the recording has them.
    """
    segments, blocks = snapshot.segments, snapshot.blocks
    mine = segments.device == device
    of_device = np.repeat(mine, np.diff(segments.first_block))
    asked = np.where(blocks.state == 0, 0, blocks.requested_bytes)
    recorded = _rows(blocks.address, blocks.nbytes, blocks.state, asked)[of_device]
    found = _rows(
        moment.block_address, moment.block_bytes, moment.block_state, moment.block_requested_bytes
    )
    if (recorded[:, 3] < 0).any():
        found[:, 3] = recorded[:, 3] = 0
    theirs = _rows(segments.address, segments.nbytes, segments.allocated_bytes)[mine]
    held = np.where(moment.block_state == 1, moment.block_bytes, 0)
    if held.size:
        held = np.add.reduceat(held, moment.first_block[:-1])
    ours = _rows(moment.segment_address, moment.segment_bytes, held)
    return Ending(
        reserved_bytes=int(segments.nbytes[mine].sum()),
        allocated_bytes=int(segments.allocated_bytes[mine].sum()),
        segments=max(len(theirs), len(ours)),
        segments_equal=_common(theirs, ours),
        blocks=max(len(recorded), len(found)),
        blocks_equal=_common(recorded, found),
    )


def _rows(*columns: NDArray[np.generic]) -> I64:
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _common(some: I64, others: I64) -> int:
    """Return how many rows both have; each has distinct rows."""
    if not some.size or not others.size:
        return 0
    return len(some) + len(others) - len(np.unique(np.concatenate([some, others]), axis=0))
