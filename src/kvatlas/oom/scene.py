"""The allocator at the moment of a failure: what was free where, who pins it, who holds the rest.

Owns: finding the failure in a recording, or making one in a given memory, and the tables of that
moment. Leaves to others: the twin (`kvatlas.device`), what it means (`snapshot_verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from kvatlas.device import AllocatorMoment, DeviceTwin, Limits, PinningStack
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import DeviceTrace
from kvatlas.errors import InputError
from kvatlas.oom.moment_tables import (
    MOST_ROWS,
    Holder,
    PinnedSegment,
    PrivatePool,
    holders,
    pinned_segments,
    private_pools,
)

__all__ = ["Scene", "failures_in", "recorded_scene", "replayed_scene", "segment_bytes"]

_OOM = 7
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A failure, and the allocator at it.

    Attributes:
        recorded: whether the recording has it; else the twin ran out in a given memory.
        event: of the trace; failures: how many the recording has.
        asked_bytes: the request, rounded; needed_bytes: the segment that it needs from the driver.
        free_bytes: of the device; capacity_bytes: that and what PyTorch had.
        reserved_bytes, active_bytes, stuck_bytes, releasable_bytes, idle_bytes: at the failure.
        stack: who asked, 0: not known.
        largest_bytes: the largest free piece of the pools that all share.
        pinned_segments: how many; segments: the ones with most free bytes; pinning: stacks.
        holders: who holds most; pools: private ones.
    """

    recorded: bool
    event: int
    failures: int
    asked_bytes: int
    needed_bytes: int
    free_bytes: int
    capacity_bytes: int
    reserved_bytes: int
    active_bytes: int
    stuck_bytes: int
    releasable_bytes: int
    idle_bytes: int
    stack: int
    largest_bytes: int
    pinned_segments: int
    segments: tuple[PinnedSegment, ...]
    pinning: tuple[PinningStack, ...]
    holders: tuple[Holder, ...]
    pools: tuple[PrivatePool, ...]


def failures_in(trace: DeviceTrace) -> list[int]:
    """Return the events of the recorded out-of-memory errors."""
    found: list[int] = np.flatnonzero(trace.action == _OOM).tolist()
    return found


def recorded_scene(twin: DeviceTwin, event: int) -> Scene:
    """Return the scene of a recorded failure. Two replays. Raises: InputError for no failure."""
    trace = twin.trace
    if not 0 <= event < len(trace) or trace.action[event] != _OOM:
        raise InputError("no out-of-memory error of this trace", field="event", value=event)
    moment = twin.moment(event)
    series = twin.replay_recorded().timeline
    return _scene(
        twin,
        moment,
        recorded=True,
        event=event,
        asked=int(trace.nbytes[event]),
        free=int(trace.address[event]),
        bytes_=(
            int(series.reserved_bytes[event]),
            int(series.active_bytes[event]),
            int(series.stuck_bytes[event]),
            int(series.releasable_bytes[event]),
            int(series.idle_bytes[event]),
        ),
        stack=int(trace.stack[event]),
        settings=twin.settings,
    )


def replayed_scene(
    twin: DeviceTwin, capacity_bytes: int, settings: AllocatorSettings | None = None
) -> Scene | None:
    """Return where the requests run out in so much memory, None where they do not. One run."""
    found = twin.what_if(settings, Limits(capacity_bytes=capacity_bytes), moment=True)
    if found.ran_out_at is None or found.moment is None:
        return None
    event = found.ran_out_at
    return _scene(
        twin,
        found.moment,
        recorded=False,
        event=event,
        asked=found.refused_bytes or 0,
        free=max(0, capacity_bytes - found.reserved_bytes),
        bytes_=(
            found.reserved_bytes,
            found.reserved_bytes - found.stuck_bytes - found.releasable_bytes - found.idle_bytes,
            found.stuck_bytes,
            found.releasable_bytes,
            found.idle_bytes,
        ),
        stack=int(twin.trace.stack[event]) if event >= 0 else 0,
        settings=found.settings,
    )


def segment_bytes(asked: int, settings: AllocatorSettings) -> int:
    """Return the segment that the driver is asked for when a request finds no block."""
    if asked <= _MIB:
        return 2 * _MIB
    if settings.expandable_segments or asked < 10 * _MIB:
        page = settings.large_segment_bytes
        return -(-asked // page) * page
    return -(-asked // (2 * _MIB)) * 2 * _MIB


def _scene(
    twin: DeviceTwin,
    moment: AllocatorMoment,
    *,
    recorded: bool,
    event: int,
    asked: int,
    free: int,
    bytes_: tuple[int, int, int, int, int],
    stack: int,
    settings: AllocatorSettings,
) -> Scene:
    reserved, active, stuck, releasable, idle = bytes_
    shared = _shared(moment)
    usable = shared.block_bytes[shared.block_state == 0]
    pinned = np.flatnonzero(shared.pinned())
    return Scene(
        recorded=recorded,
        event=event,
        failures=len(failures_in(twin.trace)),
        asked_bytes=asked,
        needed_bytes=segment_bytes(asked, settings),
        free_bytes=free,
        capacity_bytes=reserved + free,
        reserved_bytes=reserved,
        active_bytes=active,
        stuck_bytes=stuck,
        releasable_bytes=releasable,
        idle_bytes=idle,
        stack=stack,
        largest_bytes=int(usable.max(initial=0)),
        pinned_segments=int(pinned.size),
        segments=pinned_segments(shared, pinned),
        pinning=shared.pinning_stacks()[:MOST_ROWS],
        holders=holders(moment),
        pools=private_pools(moment, twin.snapshot.pools),
    )


def _shared(moment: AllocatorMoment) -> AllocatorMoment:
    """Return the part of a moment that is in no private pool."""
    mine = moment.segment_pool == 0
    counts = np.diff(moment.first_block)
    blocks = np.repeat(mine, counts)
    changes: dict[str, Any] = {"first_block": np.append(0, np.cumsum(counts[mine]))}
    for each in fields(moment):
        if each.name.startswith("segment_"):
            changes[each.name] = getattr(moment, each.name)[mine]
        elif each.name.startswith("block_"):
            changes[each.name] = getattr(moment, each.name)[blocks]
    return replace(moment, **changes)
