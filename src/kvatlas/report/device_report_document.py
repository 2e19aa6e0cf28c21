"""What `kvatlas device report` shows, frozen; every view gets the same.

Owns: the shape, its JSON (docs/guide/device.md). Leaves to others: every figure
(`kvatlas.device`), the columns behind the pictures (`device_pack`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.device.overview import Overview
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import Frame

__all__ = ["DeviceReportDocument"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""
_SHOWN_STACKS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReportDocument:
    """One device of a snapshot, as recorded.

    Attributes:
        version: kvatlas's. path: the snapshot's.
        settings: the recorded ones. found: what the trace shows.
        shown: the events in the pictures.
        courses: (columns,) per series: the highest of equal numbers of events, in bytes.
        notes: plain sentences that a user must read.
    """

    version: str
    path: str
    settings: AllocatorSettings
    found: Overview
    shown: range
    courses: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the pictures show every event of the trace."""
        return len(self.shown) == self.found.recorded.events

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        found, recorded, moment = self.found, self.found.recorded, self.found.moment
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "snapshot": self.path,
            "device": recorded.device,
            "settings": self.settings.text(),
            "events": recorded.events,
            "shown": {"first": self.shown.start, "end": self.shown.stop},
            "span_us": found.span_us,
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
                for peak in found.peaks
            },
            "failures": [
                {
                    "event": one.event,
                    "time_us": one.time_us,
                    "asked_bytes": one.asked_bytes,
                    "free_bytes": one.free_bytes,
                }
                for one in found.failures
            ],
            "releases": found.releases,
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
                for one in found.holders[:_SHOWN_STACKS]
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
                for one in found.pinners[:_SHOWN_STACKS]
            ],
            "unverified": list(recorded.unverified),
            "notes": list(self.notes),
        }


def _calls(calls: tuple[Frame, ...]) -> list[dict[str, str | int]]:
    """Return calls, the innermost first."""
    return [{"name": one.name, "filename": one.filename, "line": one.line} for one in calls]
