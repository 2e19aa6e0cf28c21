"""What `kvatlas device report` shows, frozen; every view gets the same.

Owns: the shape, its JSON (docs/guide/device.md). Leaves to others: every figure
(`kvatlas.device`), the columns behind the pictures (`device_pack`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvatlas.device.moment import PinningStack
from kvatlas.device.results import RecordedReplay
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import Frame

__all__ = ["DeviceReportDocument", "Failure", "Holder", "MomentBytes", "Peak", "Pinner"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


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
class DeviceReportDocument:
    """One device of a snapshot, as recorded.

    Attributes:
        version: kvatlas's. path: the snapshot's.
        settings, recorded: the recorded settings, and how the trace replays.
        shown: the events in the pictures; span_us: from the trace's first event to its last, 0
            where the recording has no clock.
        peaks: of reserved, allocated and stuck bytes, over the whole trace.
        failures: recorded out-of-memory errors; releases: times that memory went back.
        moment: the one to look at first.
        holders, pinners: stacks at that moment, those with most bytes first.
        courses: (columns,) per series: its mean over equal numbers of events, in bytes.
        notes: plain sentences that a user must read.
        data: what the page's scripts read, None where no page is written.
    """

    version: str
    path: str
    settings: AllocatorSettings
    recorded: RecordedReplay
    shown: range
    span_us: int
    peaks: tuple[Peak, ...]
    failures: tuple[Failure, ...]
    releases: int
    moment: MomentBytes
    holders: tuple[Holder, ...]
    pinners: tuple[Pinner, ...]
    courses: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]
    data: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def whole(self) -> bool:
        """Whether the pictures show every event of the trace."""
        return len(self.shown) == self.recorded.events

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        recorded, moment = self.recorded, self.moment
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "snapshot": self.path,
            "device": recorded.device,
            "settings": self.settings.text(),
            "events": recorded.events,
            "shown": {"first": self.shown.start, "end": self.shown.stop},
            "span_us": self.span_us,
            "allocs": recorded.allocs,
            "frees": recorded.frees,
            "addresses_equal": recorded.addresses_equal,
            "identical": recorded.identical,
            "first_difference": recorded.first_difference,
            "reserved_bytes": dict(
                zip(("recorded", "replayed"), recorded.reserved_bytes, strict=True)
            ),
            "allocated_bytes": dict(
                zip(("recorded", "replayed"), recorded.allocated_bytes, strict=True)
            ),
            "peaks": {
                peak.name: {"bytes": peak.nbytes, "event": peak.event, "time_us": peak.time_us}
                for peak in self.peaks
            },
            "failures": [
                {
                    "event": one.event,
                    "time_us": one.time_us,
                    "asked_bytes": one.asked_bytes,
                    "free_bytes": one.free_bytes,
                }
                for one in self.failures
            ],
            "releases": self.releases,
            "moment": {
                "event": moment.event,
                "time_us": moment.time_us,
                "why": moment.why,
                "reserved_bytes": moment.reserved_bytes,
                "allocated_bytes": moment.allocated_bytes,
                "waiting_bytes": moment.waiting_bytes,
                "stuck_bytes": moment.stuck_bytes,
                "releasable_bytes": moment.releasable_bytes,
                "idle_bytes": moment.idle_bytes,
                "segments": moment.segments,
                "blocks": moment.blocks,
            },
            "holders": [
                {
                    "held_bytes": one.held_bytes,
                    "stuck_bytes": one.stuck_bytes,
                    "blocks": one.blocks,
                    "calls": _calls(one.calls),
                }
                for one in self.holders
            ],
            "pinning": [
                {
                    "alone_bytes": one.pins.alone_bytes,
                    "shared_bytes": one.pins.shared_bytes,
                    "held_bytes": one.pins.held_bytes,
                    "blocks": one.pins.blocks,
                    "segments": one.pins.segments,
                    "calls": _calls(one.calls),
                }
                for one in self.pinners
            ],
            "unverified": list(recorded.unverified),
            "notes": list(self.notes),
        }


def _calls(calls: tuple[Frame, ...]) -> list[dict[str, str | int]]:
    """Return calls, the innermost first."""
    return [{"name": one.name, "filename": one.filename, "line": one.line} for one in calls]
