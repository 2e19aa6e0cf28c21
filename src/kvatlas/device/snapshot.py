"""What a memory snapshot says, as typed columns.

Owns: `DeviceSnapshot` and its parts. Leaves to others: reading one (`reading`), replaying it
(`twin`), measuring it (`timeline`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.settings import AllocatorSettings

__all__ = [
    "ALLOC",
    "FREE_COMPLETED",
    "FREE_REQUESTED",
    "OOM",
    "SEGMENT_ALLOC",
    "SEGMENT_FREE",
    "SEGMENT_MAP",
    "SEGMENT_UNMAP",
    "AllocatorBlocks",
    "AllocatorSegments",
    "Annotations",
    "DeviceSnapshot",
    "DeviceTrace",
    "Frame",
    "Stacks",
]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

ALLOC, FREE_REQUESTED, FREE_COMPLETED = 0, 1, 2
SEGMENT_ALLOC, SEGMENT_FREE, SEGMENT_MAP, SEGMENT_UNMAP, OOM = 3, 4, 5, 6, 7
"""Codes of what an event is: places in `kvatlas.device.ACTIONS`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One call on a stack."""

    name: str
    filename: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Stacks:
    """Every distinct stack once; number 0 is the empty one.

    Attributes:
        texts: distinct strings, also those that traces refer to.
        name, filename, line: (frames,) texts' numbers, and lines.
        frames, ends: stack s is frames[ends[s] : ends[s + 1]], the innermost call first.
    """

    texts: tuple[str, ...]
    name: I64
    filename: I64
    line: I64
    frames: I32
    ends: I64

    def __len__(self) -> int:
        return self.ends.size - 1

    def of(self, stack: int) -> tuple[Frame, ...]:
        """Return the calls of one stack, the innermost first; O(calls)."""
        numbers = self.frames[self.ends[stack] : self.ends[stack + 1]]
        return tuple(
            Frame(
                self.texts[int(self.name[number])],
                self.texts[int(self.filename[number])],
                int(self.line[number]),
            )
            for number in numbers
        )


@dataclass(frozen=True, slots=True, eq=False)
class AllocatorSegments:
    """Pieces of device memory that the driver gave, in order of (device, address).

    Attributes: (n,) each; bytes where a size is meant. `pool` is an index into the snapshot's
    pools, `stack` into its stacks. A segment's blocks are first_block[i] ... first_block[i + 1] - 1
    (n + 1 entries).
    """

    device: I64
    address: I64
    nbytes: I64
    allocated_bytes: I64
    active_bytes: I64
    stream: I64
    large: NDArray[np.bool_]
    pool: I64
    expandable: NDArray[np.bool_]
    stack: I64
    first_block: I64

    def __len__(self) -> int:
        return self.address.size


@dataclass(frozen=True, slots=True, eq=False)
class AllocatorBlocks:
    """Pieces of the segments, in their order; without gaps.

    Attributes: (n,) each. `state`: 0 inactive, 1 allocated, 2 freed but in use by another stream.
    `requested_bytes` is what the program asked for, -1 where the recording does not say; of an
    inactive block, what was asked for last.
    """

    address: I64
    nbytes: I64
    requested_bytes: I64
    state: U8
    stack: I64

    def __len__(self) -> int:
        return self.address.size


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTrace:
    """What the allocator of one device did, in order; a ring, so its beginning may be lost.

    Attributes: (n,) each. `action` is an index into `kvatlas.device.ACTIONS`. `nbytes` is what was
    asked for (alloc, free), a segment's size, or a refused request rounded up (oom); `address` of
    an oom is the device's free memory.
    """

    device: int
    action: U8
    address: I64
    nbytes: I64
    stream: I64
    time_us: I64
    stack: I32
    pool: I32
    context: I32
    metadata: I32

    def __len__(self) -> int:
        return self.action.size

    def failures(self) -> I64:
        """Return the events that are out-of-memory errors; O(n)."""
        return np.flatnonzero(self.action == OOM)


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Marks that a profiler left: (n,) texts' numbers, devices and times."""

    stage: I64
    name: I64
    device: I64
    time_us: I64

    def __len__(self) -> int:
        return self.stage.size


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSnapshot:
    """A memory snapshot of one process, of all its devices.

    Attributes:
        settings: the allocator's; all defaults where the recording does not say (`has_settings`).
        pools: ids of memory pools; (0, 0) is the one that everybody uses.
        traces: one per device that has events.
    """

    settings: AllocatorSettings
    has_settings: bool
    segments: AllocatorSegments
    blocks: AllocatorBlocks
    traces: tuple[DeviceTrace, ...]
    stacks: Stacks
    pools: tuple[tuple[int, int], ...]
    annotations: Annotations

    def devices(self) -> tuple[int, ...]:
        """Return the devices with segments or events."""
        found = {int(device) for device in self.segments.device}
        return tuple(sorted(found | {trace.device for trace in self.traces}))

    def trace(self, device: int) -> DeviceTrace | None:
        """Return a device's trace, None without."""
        return next((trace for trace in self.traces if trace.device == device), None)
