"""`kvatlas map`: what it does.

Owns: reading the flags' values, finding the moment, the console. Leaves to others: the picture
(`kvatlas.report.map_terminal`).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.events import AnyRecording, FragmentationSnapshot

__all__ = ["MapFlags", "parse_moment", "run_map"]

_WAYS = ("state", "owner", "group")
_NARROWEST, _WIDEST = 20, 1000
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MOMENT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(ms|s|min|h|%)?", re.ASCII)
_RANGE = re.compile(r"([0-9]{0,12}):([0-9]{0,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class MapFlags:
    """What was asked for."""

    run: str
    at: str | None = None
    event: int | None = None
    by: str = "state"
    width: int | None = None
    blocks: str | None = None
    ascii: bool = False


def run_map(flags: MapFlags) -> None:
    """Print the map of one moment. Raises: InputError naming the flag."""
    _check(flags)
    at = None if flags.at is None else parse_moment(flags.at)
    from kvatlas.events import open_recording

    recording = open_recording(flags.run)
    blocks = _blocks(flags.blocks, recording.header.num_blocks)
    snapshot = _snapshot(recording, flags, at)
    from kvatlas.report.console import make_console
    from kvatlas.report.map_terminal import print_map

    console = make_console()
    if flags.width is not None and flags.width > console.width:
        console.width = flags.width
    print_map(
        console,
        snapshot,
        recording.header,
        by=cast(Any, flags.by),
        width=flags.width,
        blocks=blocks,
        names=recording.names,
        ascii_only=flags.ascii,
    )
    if recording.partial and flags.at is None and flags.event is None:
        print(f"kvatlas: {recording.partial}", file=sys.stderr)  # noqa: T201


def parse_moment(text: str) -> tuple[float, str]:
    """Return seconds and "", or a share of the run and "%". Raises: InputError."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise InputError(
            "not a moment", field="--at", value=text, remedy="write 90, 2.5min, 1h, 800ms or 50%"
        )
    number, unit = match.groups(default="")
    if unit == "%":
        if float(number) > 100:
            raise InputError(
                "after the end of the run", field="--at", value=text, remedy="use 0% to 100%"
            )
        return float(number) / 100, unit
    return float(number) * _SECONDS[unit], ""


def _check(flags: MapFlags) -> None:
    if flags.by not in _WAYS:
        raise InputError(
            "unknown", field="--by", value=flags.by, remedy=f"use one of {', '.join(_WAYS)}"
        )
    if flags.at is not None and flags.event is not None:
        raise InputError("two moments", field="--at", remedy="use either --at or --event")
    if flags.width is not None and not _NARROWEST <= flags.width <= _WIDEST:
        raise InputError(f"must be {_NARROWEST} to {_WIDEST:,}", field="--width", value=flags.width)


def _blocks(text: str | None, num_blocks: int) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(
            "not a range of blocks", field="--blocks", value=text, remedy="write 0:1000"
        )
    first = int(match[1] or 0)
    stop = int(match[2] or num_blocks)
    if not first < stop <= num_blocks:
        raise InputError(
            "no such blocks", field="--blocks", value=text, remedy=f"the pool is 0:{num_blocks}"
        )
    return first, stop


def _snapshot(
    recording: AnyRecording, flags: MapFlags, at: tuple[float, str] | None
) -> FragmentationSnapshot:
    from kvatlas.events import snapshot_at

    if at is None:
        if flags.event is not None and flags.event < 0:
            raise _no_event(recording, flags.event, _count(recording))
        try:
            return snapshot_at(recording, event=flags.event)
        except InputError as error:
            if error.field != "event":
                raise
            raise _no_event(recording, flags.event, recording.events) from error
    if at[1] == "%":
        first_s, last_s = _span(recording)
        return snapshot_at(recording, time_s=first_s + at[0] * (last_s - first_s))
    snapshot = snapshot_at(recording, time_s=at[0])
    over = snapshot.event == recording.events and at[0] > snapshot.time_s
    if over or snapshot.event == 0:
        first_s, last_s = _span(recording)
        raise InputError(
            "outside of the run",
            file=recording.path,
            field="--at",
            value=flags.at,
            remedy=f"it goes from {first_s:.3f} to {last_s:.3f} s",
        )
    return snapshot


def _no_event(recording: AnyRecording, event: int | None, events: int) -> InputError:
    return InputError(
        "outside of the run",
        file=recording.path,
        field="--event",
        value=event,
        remedy=f"it has events 0 to {events:,}",
    )


def _count(recording: AnyRecording) -> int:
    return sum(len(chunk.rows) for chunk in recording.chunks())


def _span(recording: AnyRecording) -> tuple[float, float]:
    """Return the first and the last event's time, seconds; one more pass over the recording."""
    first_s = last_s = 0.0
    seen = False
    for chunk in recording.chunks():
        if len(chunk.rows):
            if not seen:
                first_s, seen = float(chunk.rows["time_ms"][0]) / 1e3, True
            last_s = float(chunk.rows["time_ms"][-1]) / 1e3
    return first_s, last_s
