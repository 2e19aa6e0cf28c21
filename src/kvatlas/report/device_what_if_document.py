"""What `kvatlas device what-if` shows, frozen; every view gets the same.

Owns: the shape, its JSON (docs/guide/device-tools.md), which setting needs least. Leaves to others:
every figure (`kvatlas.device`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvatlas.device.results import RecordedReplay, Start, WhatIf
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.survival import Survival
from kvatlas.device.trials import Trial

__all__ = ["DeviceWhatIfDocument", "survival_dict"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""

_RUN_FIGURES = (
    "ran_out_at", "refused_bytes", "recorded_failures_survived", "peak_reserved_bytes",
    "peak_allocated_bytes", "peak_active_bytes", "peak_requested_bytes", "peak_stuck_bytes",
    "stuck_at_peak_bytes", "releasable_at_peak_bytes", "reserved_bytes", "allocated_bytes",
    "stuck_bytes", "releasable_bytes", "idle_bytes", "retries", "segments", "releases", "collected",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWhatIfDocument:
    """Settings tried on one device's requests.

    Attributes:
        version: kvatlas's. path: the snapshot's.
        recorded_settings, recorded: the settings of the recording, and how it replays.
        failed_in_bytes: what the process had where the recording ran out of memory, None if never.
        memory_bytes: the limit of the runs, None for none.
        start: how every run began.
        trials: in the order of the settings.
        partial: why some are missing, empty when none is.
    """

    version: str
    path: str
    recorded_settings: AllocatorSettings
    recorded: RecordedReplay
    failed_in_bytes: int | None
    memory_bytes: int | None
    start: Start
    trials: tuple[Trial, ...]
    partial: str = ""

    @property
    def least(self) -> Trial | None:
        """The one that needs least memory; of equals the first. None without any."""
        return min(self.trials, key=lambda one: one.survival.capacity_bytes, default=None)

    @property
    def as_recorded(self) -> Trial | None:
        """The recorded settings among those tried, None where they are not."""
        same = (each for each in self.trials if each.asked.settings == self.recorded_settings)
        return next(same, None)

    @property
    def unverified(self) -> tuple[str, ...]:
        """What any of this rests on that no recording has verified."""
        lists = [self.recorded.unverified]
        for each in self.trials:
            lists += [each.run.unverified, each.survival.unverified]
        return tuple(dict.fromkeys(text for one in lists for text in one))

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        least = self.least
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "snapshot": self.path,
            "device": self.recorded.device,
            "recorded_settings": self.recorded_settings.text(),
            "identical": self.recorded.identical,
            "events": self.recorded.events,
            "failed_in_bytes": self.failed_in_bytes,
            "memory_bytes": self.memory_bytes,
            "start": self.start,
            "partial": self.partial or None,
            "least": None if least is None else least.survival.text,
            "settings": [
                {
                    "text": each.survival.text,
                    "fraction": each.asked.fraction,
                    "oom": each.run.oom,
                    "run": run_dict(each.run),
                    "survival": survival_dict(each.survival),
                }
                for each in self.trials
            ],
            "unverified": list(self.unverified),
        }


def run_dict(run: WhatIf) -> dict[str, Any]:
    """Return the figures of a run by their names, and what they rest on."""
    figures: dict[str, Any] = {name: getattr(run, name) for name in _RUN_FIGURES}
    return figures | {"unverified": list(run.unverified)}


def survival_dict(one: Survival) -> dict[str, Any]:
    """Return a survival's figures by their names, and what they rest on."""
    return {
        "capacity_bytes": one.capacity_bytes,
        "peak_reserved_bytes": one.peak_reserved_bytes,
        "peak_allocated_bytes": one.peak_allocated_bytes,
        "peak_active_bytes": one.peak_active_bytes,
        "peak_stuck_bytes": one.peak_stuck_bytes,
        "retries": one.retries,
        "unverified": list(one.unverified),
    }
