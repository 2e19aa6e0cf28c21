"""What `kvatlas device report` finds in a snapshot, as a document and as weights of stacks.

Owns: which moment is looked at, what is taken from the twin for it. Leaves to others: the figures
(`kvatlas.device`), the flags (`device_report_run`), views (`kvatlas.report`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.cli.device_report import DeviceReportFlags
from kvatlas.cli.version import version
from kvatlas.device import AllocatorMoment, DeviceTwin, Timeline
from kvatlas.device.attribution import bytes_by_stack
from kvatlas.errors import InputError
from kvatlas.report.device_pack import device_data
from kvatlas.report.device_report_document import (
    DeviceReportDocument,
    Failure,
    Holder,
    MomentBytes,
    Peak,
    Pinner,
)
from kvatlas.report.flame_files import StackWeight

__all__ = ["Found", "find"]

_OOM, _SEGMENT_FREE, _SEGMENT_UNMAP = 7, 4, 6
_SHOWN_STACKS = 50
_COLUMNS = 240
_SERIES = ("reserved", "allocated", "stuck")
_WORDS = {
    "stuck": "when most bytes were stuck",
    "reserved": "when most bytes were reserved",
    "allocated": "when most bytes were allocated",
    "oom": "at the first out-of-memory error",
    "end": "at the end",
}


@dataclass(frozen=True, slots=True)
class Found:
    """The report, and the bytes that each stack holds and keeps stuck at its moment."""

    document: DeviceReportDocument
    held: tuple[StackWeight, ...]
    stuck: tuple[StackWeight, ...]


def find(twin: DeviceTwin, flags: DeviceReportFlags, shown: range) -> Found:
    """Replay a trace and look at it. Raises: InputError for a moment that it has not."""
    replayed = twin.replay_recorded()
    trace, timeline, stacks = twin.trace, replayed.timeline, twin.snapshot.stacks
    start_us = int(trace.time_us[0])
    failures = tuple(
        Failure(
            event=at,
            time_us=int(trace.time_us[at]) - start_us,
            asked_bytes=int(trace.nbytes[at]),
            free_bytes=int(trace.address[at]),
        )
        for at in np.flatnonzero(trace.action == _OOM).tolist()
    )
    event, why = _moment(flags.at, timeline, failures, shown, explicit=flags.events is not None)
    moment = twin.moment(event)
    weights = bytes_by_stack(moment, twin.settings.large_segment_bytes)
    calls = [stacks.of(number) for number in weights.stack.tolist()]
    holders = [
        Holder(calls=one, held_bytes=int(held), stuck_bytes=int(stuck), blocks=int(blocks))
        for one, held, stuck, blocks in zip(
            calls, weights.held_bytes, weights.stuck_bytes, weights.blocks, strict=True
        )
    ]
    holders.sort(key=lambda one: -one.held_bytes)
    data = None
    if flags.html is not None:
        data = device_data(twin.snapshot, trace, twin.lives(timeline), timeline, shown)
    notes = []
    if flags.events is None and len(shown) < len(trace):
        notes.append(
            f"the pictures show the last {len(shown):,} of {len(trace):,} events; --events shows "
            "others"
        )
    document = DeviceReportDocument(
        version=version(),
        path=flags.snapshot,
        settings=twin.settings,
        recorded=replayed,
        shown=shown,
        span_us=int(trace.time_us[-1]) - start_us,
        peaks=tuple(
            Peak(
                name=name,
                nbytes=int(values[at]),
                event=at,
                time_us=int(trace.time_us[at]) - start_us,
            )
            for name, values in _named(timeline)
            for at in (int(values.argmax()),)
        ),
        failures=failures,
        releases=int(np.isin(trace.action, (_SEGMENT_FREE, _SEGMENT_UNMAP)).sum()),
        moment=_bytes(moment, timeline, event, why, int(trace.time_us[event]) - start_us),
        holders=tuple(holders[:_SHOWN_STACKS]),
        pinners=_pinners(twin, moment) if timeline.stuck_bytes[event] else (),
        courses=_courses(timeline),
        notes=tuple(notes),
        data=data,
    )
    return Found(
        document,
        tuple(StackWeight(one.calls, one.held_bytes) for one in holders),
        tuple(StackWeight(one.calls, one.stuck_bytes) for one in holders),
    )


def _named(timeline: Timeline) -> list[tuple[str, np.ndarray]]:
    return [(name, getattr(timeline, f"{name}_bytes")) for name in _SERIES]


def _moment(
    text: str,
    timeline: Timeline,
    failures: tuple[Failure, ...],
    shown: range,
    *,
    explicit: bool,
) -> tuple[int, str]:
    """Return the event to look at, and why; among those shown where a range was asked for."""
    events = shown if explicit else range(timeline.reserved_bytes.size)
    failed = [one.event for one in failures if one.event in events]
    if text == "auto":
        part = timeline.stuck_bytes[events.start : events.stop]
        text = "oom" if failed else "stuck" if part.any() else "reserved"
    if text in _SERIES:
        part = getattr(timeline, f"{text}_bytes")[events.start : events.stop]
        return events.start + int(part.argmax()), _WORDS[text]
    if text == "end":
        return events.stop - 1, _WORDS[text]
    if text == "oom":
        if not failed:
            raise InputError("no out-of-memory error in this trace", field="--at", value=text)
        return failed[0], _WORDS[text]
    digits = text.replace(",", "").strip()
    if not digits.isascii() or not digits.isdigit() or int(digits) not in events:
        raise InputError(
            "no moment of this trace",
            field="--at",
            value=text,
            remedy=f"an event from {events.start} to {events.stop - 1}, or {', '.join(_WORDS)}",
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


def _pinners(twin: DeviceTwin, moment: AllocatorMoment) -> tuple[Pinner, ...]:
    stacks = twin.snapshot.stacks
    return tuple(
        Pinner(calls=stacks.of(one.stack), pins=one)
        for one in moment.pinning_stacks()[:_SHOWN_STACKS]
    )


def _courses(timeline: Timeline) -> dict[str, tuple[float, ...]]:
    """Return the series thinned to some columns: the highest value in each."""
    courses = {}
    for name, values in _named(timeline):
        first = np.linspace(0, values.size, min(_COLUMNS, values.size) + 1).astype(np.int64)[:-1]
        courses[name] = tuple(np.maximum.reduceat(values, first).astype(float).tolist())
    return courses
