"""The allocator at the moment of a failure: what was free where, who pins it, who holds the rest.

Owns: finding the failure in a recording, or making one in a given memory, and the tables of that
moment. Leaves to others: the twin (`kvatlas.device`), what it means (`snapshot_verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.device import AllocatorMoment, DeviceTwin, Limits, PinningStack
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import Stacks
from kvatlas.errors import InputError

__all__ = ["Holder", "PinnedSegment", "PrivatePool", "Scene", "recorded_scene", "replayed_scene",
           "stack_words"]  # fmt: skip

_OOM = 7
_MIB = 1 << 20
_MOST_ROWS = 12


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


def failures_of(twin: DeviceTwin) -> list[int]:
    """Return the events of the recorded out-of-memory errors."""
    found: list[int] = np.flatnonzero(twin.trace.action == _OOM).tolist()
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


def stack_words(stacks: Stacks, number: int) -> str:
    """Return the innermost call outside torch, and its caller: `load (model.py:12) < main (...)`.

    "" where nothing was recorded.
    """
    frames = stacks.of(number)
    python = [
        frame
        for frame in frames
        if frame.filename.endswith(".py")
        and "/torch/" not in frame.filename
        and not frame.filename.startswith("torch/")
    ]
    chosen = python or list(frames)
    return " < ".join(
        f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.line})" for frame in chosen[:2]
    )


def _needed(asked: int, settings: AllocatorSettings) -> int:
    """Return the segment that the driver is asked for."""
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
    shared = moment.segment_pool == 0
    segment = np.repeat(np.arange(moment.segment_bytes.size), np.diff(moment.first_block))
    free_block = moment.block_state == 0
    usable = moment.block_bytes[free_block & shared[segment]]
    pinned = np.flatnonzero(moment.pinned() & shared)
    rows = pinned[np.argsort(-moment.free_bytes()[pinned], kind="stable")][:_MOST_ROWS]
    return Scene(
        recorded=recorded,
        event=event,
        failures=len(failures_of(twin)),
        asked_bytes=asked,
        needed_bytes=_needed(asked, settings),
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
        segments=tuple(_segment(moment, int(at)) for at in rows),
        pinning=moment.pinning_stacks()[:_MOST_ROWS],
        holders=_holders(moment),
        pools=_pools(twin, moment, segment),
    )


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


def _holders(moment: AllocatorMoment) -> tuple[Holder, ...]:
    live = np.flatnonzero(moment.block_state != 0)
    stacks, at = np.unique(moment.block_stack[live], return_inverse=True)
    at = at.reshape(-1)
    held = np.bincount(at, weights=moment.block_bytes[live], minlength=stacks.size)
    blocks = np.bincount(at, minlength=stacks.size)
    order = np.argsort(-held, kind="stable")[:_MOST_ROWS]
    return tuple(
        Holder(stack=int(stacks[one]), blocks=int(blocks[one]), held_bytes=int(held[one]))
        for one in order
    )


def _pools(twin: DeviceTwin, moment: AllocatorMoment, segment: object) -> tuple[PrivatePool, ...]:
    active = np.where(moment.block_state != 0, moment.block_bytes, 0)
    per_segment = np.bincount(
        np.asarray(segment), weights=active, minlength=moment.segment_bytes.size
    )
    found = []
    for pool in np.unique(moment.segment_pool[moment.segment_pool != 0]).tolist():
        mine = moment.segment_pool == pool
        found.append(
            PrivatePool(
                pool=twin.snapshot.pools[pool],
                segments=int(np.count_nonzero(mine)),
                reserved_bytes=int(moment.segment_bytes[mine].sum()),
                active_bytes=int(per_segment[mine].sum()),
            )
        )
    return tuple(sorted(found, key=lambda one: -one.reserved_bytes))
