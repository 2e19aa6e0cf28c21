"""The twin's blocks beside those of the snapshot, when the trace is over.

Owns: the comparison. Leaves to others: what it is compared for (`twin`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import FREE, HELD, NONE, PENDING, UNMAPPED, UNUSED, Twin
from kvatlas.device.snapshot import DeviceSnapshot

__all__ = ["Ending", "compare_ending"]

I64 = NDArray[np.int64]
_STATE_OF = {FREE: 0, HELD: 1, PENDING: 2}


@dataclass(frozen=True, slots=True)
class Ending:
    """Recorded figures at the end, and how many segments and blocks the twin has the same."""

    reserved_bytes: int
    allocated_bytes: int
    segments: int
    segments_equal: int
    blocks: int
    blocks_equal: int


def compare_ending(twin: Twin, snapshot: DeviceSnapshot, device: int) -> Ending:
    """Compare every segment and block of one device; O(n log n).

    A run of mapped pages is a segment of its own, as in a snapshot.
    """
    segments, blocks = snapshot.segments, snapshot.blocks
    mine = segments.device == device
    of_device = np.repeat(mine, np.diff(segments.first_block))
    asked = np.where(
        (blocks.state == 0) | (blocks.requested_bytes < 0), NONE, blocks.requested_bytes
    )
    recorded = _rows(blocks.address, blocks.nbytes, blocks.state, asked)[of_device]
    theirs = _rows(segments.address, segments.nbytes, segments.allocated_bytes)[mine]
    found = _blocks_of(twin)
    unknown = (blocks.state != 0) & (blocks.requested_bytes < 0)
    if unknown.any():
        found[:, 3] = recorded[:, 3] = NONE
    ours = _segments_of(twin)
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


def _mapped(twin: Twin) -> NDArray[np.intp]:
    state = twin.nodes["state"]
    used = np.flatnonzero((state != UNUSED) & (state != UNMAPPED))
    return used[np.argsort(twin.nodes["offset"][used], kind="stable")]


def _blocks_of(twin: Twin) -> I64:
    """Return the twin's blocks: address, bytes, state as in a snapshot, requested bytes or NONE."""
    nodes = twin.nodes[_mapped(twin)]
    state = np.array([_STATE_OF[int(one)] for one in nodes["state"]], np.int64)
    asked = np.where(state == 0, NONE, nodes["asked"])
    return _rows(nodes["offset"], nodes["length"], state, asked)


def _segments_of(twin: Twin) -> I64:
    """Return the twin's segments: address, bytes, allocated bytes."""
    order = _mapped(twin)
    if not order.size:
        return np.zeros((0, 3), np.int64)
    nodes = twin.nodes[order]
    before = nodes["before"]
    begins = (before == NONE) | (twin.nodes["state"][before] == UNMAPPED)
    first = np.flatnonzero(begins)
    held = np.where(nodes["state"] == HELD, nodes["length"], 0)
    return _rows(
        nodes["offset"][first],
        np.add.reduceat(nodes["length"], first),
        np.add.reduceat(held, first),
    )
