"""What a recorded trace shows at a glance: peaks, failures, and who holds and pins what.

Owns: `Overview`, which moment is worth a look, what is taken from the twin for it. Leaves to
others: the replay (`twin`), bytes by stack (`attribution`), words and pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.device.attribution import bytes_by_stack
from kvatlas.device.moment import AllocatorMoment, PinningStack
from kvatlas.device.results import RecordedReplay, Timeline
from kvatlas.device.snapshot import SEGMENT_FREE, SEGMENT_UNMAP, Frame
from kvatlas.device.twin import DeviceTwin
from kvatlas.errors import InputError

__all__ = ["Failure", "Holder", "MomentBytes", "Overview", "Peak", "Pinner", "overview_of"]

_SERIES = ("reserved", "allocated", "stuck")
_WHY = {
    "stuck": "when most bytes were stuck",
    "reserved": "when most bytes were reserved",
    "allocated": "when most bytes were allocated",
    "oom": "at the first out-of-memory error",
    "end": "at the end",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The highest value of a series, and the first event that has it."""

    name: str
    nbytes: int
    event: int
    time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A recorded out-of-memory error: what was asked for, and what the driver had."""

    event: int
    time_us: int
    asked_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentBytes:
    """Bytes after one event: allocated, waiting for a stream, and the free ones by their fate.

    `why`: what makes it the moment to look at, in words.
    """

    event: int
    time_us: int
    why: str
    reserved_bytes: int
    allocated_bytes: int
    waiting_bytes: int
    stuck_bytes: int
    releasable_bytes: int
    idle_bytes: int
    segments: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A stack at the moment: what it holds, and its even share of what stays stuck."""

    calls: tuple[Frame, ...]
    held_bytes: int
    stuck_bytes: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinner:
    """A stack at the moment that keeps free bytes from the driver."""

    calls: tuple[Frame, ...]
    pins: PinningStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A recorded trace at a glance.

    Attributes:
        recorded: how it replays.
        span_us: from the first event to the last, 0 where the recording has no clock.
        peaks: of reserved, allocated and stuck bytes.
        failures: recorded out-of-memory errors; releases: times that memory went back.
        moment: the one worth a look.
        holders, pinners: all stacks at that moment, those that hold most or pin most alone first.
    """

    recorded: RecordedReplay
    span_us: int
    peaks: tuple[Peak, ...]
    failures: tuple[Failure, ...]
    releases: int
    moment: MomentBytes
    holders: tuple[Holder, ...]
    pinners: tuple[Pinner, ...]


def overview_of(twin: DeviceTwin, at: str = "auto", among: range | None = None) -> Overview:
    """Replay a trace and look at it; O(events log blocks).

    Args:
        twin: of the device.
        at: the moment: after this event (digits), at the peak of `stuck`, `reserved` or `allocated`
            bytes, at the first `oom`, at the `end`; `auto`: the first failure, or else most stuck.
        among: the events that it may be; None: all.

    Raises: InputError (field `at`) for a moment that the trace has not.
    """
    replayed = twin.replay_recorded()
    trace, timeline, stacks = twin.trace, replayed.timeline, twin.snapshot.stacks
    start_us = int(trace.time_us[0])
    failures = tuple(
        Failure(
            event=event,
            time_us=int(trace.time_us[event]) - start_us,
            asked_bytes=int(trace.nbytes[event]),
            free_bytes=int(trace.address[event]),
        )
        for event in trace.failures().tolist()
    )
    event, why = _event(at, timeline, failures, range(len(trace)) if among is None else among)
    moment = twin.moment(event)
    weights = bytes_by_stack(moment, twin.settings.large_segment_bytes)
    holders = [
        Holder(
            calls=stacks.of(int(number)),
            held_bytes=int(held),
            stuck_bytes=int(stuck),
            blocks=int(blocks),
        )
        for number, held, stuck, blocks in zip(
            weights.stack, weights.held_bytes, weights.stuck_bytes, weights.blocks, strict=True
        )
    ]
    pinners: tuple[PinningStack, ...] = ()
    if timeline.stuck_bytes[event]:
        pinners = moment.pinning_stacks()
    return Overview(
        recorded=replayed,
        span_us=int(trace.time_us[-1]) - start_us,
        peaks=tuple(_peak(name, timeline, twin) for name in _SERIES),
        failures=failures,
        releases=int(np.isin(trace.action, (SEGMENT_FREE, SEGMENT_UNMAP)).sum()),
        moment=_bytes(moment, timeline, event, why, int(trace.time_us[event]) - start_us),
        holders=tuple(sorted(holders, key=lambda one: -one.held_bytes)),
        pinners=tuple(Pinner(calls=stacks.of(one.stack), pins=one) for one in pinners),
    )


def _peak(name: str, timeline: Timeline, twin: DeviceTwin) -> Peak:
    values = getattr(timeline, f"{name}_bytes")
    event, time_us = int(values.argmax()), twin.trace.time_us
    return Peak(
        name=name,
        nbytes=int(values[event]),
        event=event,
        time_us=int(time_us[event] - time_us[0]),
    )


def _event(
    text: str, timeline: Timeline, failures: tuple[Failure, ...], events: range
) -> tuple[int, str]:
    """Return the event to look at, and why."""
    failed = [one.event for one in failures if one.event in events]
    if text == "auto":
        stuck = timeline.stuck_bytes[events.start : events.stop]
        text = "oom" if failed else "stuck" if stuck.any() else "reserved"
    if text in _SERIES:
        part = getattr(timeline, f"{text}_bytes")[events.start : events.stop]
        return events.start + int(part.argmax()), _WHY[text]
    if text == "end":
        return events.stop - 1, _WHY[text]
    if text == "oom":
        if not failed:
            raise InputError(
                "no out-of-memory error "
                + (
                    "in this trace"
                    if len(events) == len(timeline.stuck_bytes)
                    else "among the events shown"
                ),
                field="at",
                value=text,
            )
        return failed[0], _WHY[text]
    digits = text.replace(",", "").strip()
    if (
        not digits.isascii()
        or not digits.isdigit()
        or len(digits) > 18
        or int(digits) not in events
    ):
        raise InputError(
            "no moment of this trace",
            field="at",
            value=text,
            remedy=f"an event from {events.start} to {events.stop - 1}, or {', '.join(_WHY)}",
        )
    return int(digits), "as asked for"


def _bytes(
    moment: AllocatorMoment, timeline: Timeline, event: int, why: str, time_us: int
) -> MomentBytes:
    allocated = int(timeline.allocated_bytes[event])
    return MomentBytes(
        event=event,
        time_us=time_us,
        why=why,
        reserved_bytes=int(timeline.reserved_bytes[event]),
        allocated_bytes=allocated,
        waiting_bytes=int(timeline.active_bytes[event]) - allocated,
        stuck_bytes=int(timeline.stuck_bytes[event]),
        releasable_bytes=int(timeline.releasable_bytes[event]),
        idle_bytes=int(timeline.idle_bytes[event]),
        segments=int(moment.segment_bytes.size),
        blocks=int(np.count_nonzero(moment.block_state)),
    )
