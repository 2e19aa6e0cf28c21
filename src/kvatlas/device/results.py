"""What a replay and a free run of the twin return.

Owns: the figures' names and what each means. Leaves to others: running (`twin`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.build import Limits
from kvatlas.device.moment import AllocatorMoment
from kvatlas.device.settings import AllocatorSettings

__all__ = ["RecordedReplay", "Start", "Timeline", "WhatIf"]

I64 = NDArray[np.int64]
Start = Literal["recorded", "rebuilt"]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Bytes after every event: (events,) each.

    `stuck` are free bytes in segments that a live block pins, `releasable` those that the driver
    could have back, `idle` those free in private pools. reserved = active + stuck + releasable +
    idle; allocated is at most active.
    """

    reserved_bytes: I64
    allocated_bytes: I64
    active_bytes: I64
    releasable_bytes: I64
    idle_bytes: I64

    @property
    def stuck_bytes(self) -> I64:
        """Free bytes that a live block of their segment keeps from the driver."""
        free = self.reserved_bytes - self.active_bytes
        return free - self.releasable_bytes - self.idle_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReplay:
    """A recorded trace replayed with the recorded driver: does the twin decide the same?

    Attributes:
        allocs, frees: events replayed; addresses_equal: allocations at the recorded address.
        differences: everything that differed, and first_difference, the event of the first one.
        reserved_bytes, allocated_bytes: (recorded, replayed) at the end.
        segments_equal, blocks_equal: of the final ones, how many are the recorded ones, to the byte
            (block: address, size, state, and requested bytes of active ones).
        segments, blocks: how many final ones there are.
        unseen_tails: blocks of which the recording does not say how long they were at its start.
        unverified: what in this trace is outside what recordings have verified.
        timeline: bytes after every event.
    """

    device: int
    events: int
    allocs: int
    frees: int
    addresses_equal: int
    differences: int
    first_difference: int | None
    reserved_bytes: tuple[int, int]
    allocated_bytes: tuple[int, int]
    segments: int
    segments_equal: int
    blocks: int
    blocks_equal: int
    unseen_tails: int
    unverified: tuple[str, ...]
    timeline: Timeline = field(repr=False)

    @property
    def identical(self) -> bool:
        """Whether every address, segment, block and both totals are the recorded ones."""
        return (
            self.addresses_equal == self.allocs
            and self.differences == 0
            and self.segments_equal == self.segments
            and self.blocks_equal == self.blocks
            and self.reserved_bytes[0] == self.reserved_bytes[1]
            and self.allocated_bytes[0] == self.allocated_bytes[1]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The same requests under other settings, or in other memory.

    Attributes:
        start: `recorded`: from the segments that were there; `rebuilt`: the blocks that were there
            are allocated anew first, in order of their addresses.
        ran_out_at: the event that memory did not suffice for, -1 for the time before the trace;
            None: it sufficed. Then the figures are up to there.
        refused_bytes: what that event asked for.
        recorded_failures_survived: recorded out-of-memory errors that would not have been any.
        peak_*: the highest values; stuck and releasable bytes at the peak of reserved ones.
        *_bytes: at the end. retries: times that everything cached was released to go on;
            segments, releases: got from the driver and given back.
        unverified: what in this run is outside what recordings have verified.
        moment: every segment and block at the end, where it was asked for.
    """

    device: int
    settings: AllocatorSettings
    limits: Limits
    start: Start
    ran_out_at: int | None
    refused_bytes: int | None
    recorded_failures_survived: int
    peak_reserved_bytes: int
    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_requested_bytes: int
    peak_stuck_bytes: int
    stuck_at_peak_bytes: int
    releasable_at_peak_bytes: int
    reserved_bytes: int
    allocated_bytes: int
    stuck_bytes: int
    releasable_bytes: int
    idle_bytes: int
    retries: int
    segments: int
    releases: int
    collected: int
    unverified: tuple[str, ...]
    timeline: Timeline | None = field(repr=False)
    moment: AllocatorMoment | None = field(default=None, repr=False)

    @property
    def oom(self) -> bool:
        """Whether memory did not suffice."""
        return self.ran_out_at is not None
