"""What `kvatlas device diff` shows, frozen; every view gets the same.

Owns: the shape and its JSON (docs/guide/device-tools.md). Leaves to others: what changed
(`kvatlas.device.diff`), looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvatlas.device.diff import Change, DeviceDiff, Side
from kvatlas.device.gate import Outcome

__all__ = ["DeviceDiffDocument"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDiffDocument:
    """Two snapshots (`paths`) compared by kvatlas `version`, and what they were to hold."""

    version: str
    paths: tuple[str, str]
    found: DeviceDiff
    outcomes: tuple[Outcome, ...]

    @property
    def unverified(self) -> tuple[str, ...]:
        """What any of this rests on that no recording has verified."""
        lists = []
        for side in (self.found.before, self.found.after):
            lists.append(side.replay.unverified)
            lists += [each.unverified for each in side.survivals.values()]
        return tuple(dict.fromkeys(text for one in lists for text in one))

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        found = self.found
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "snapshots": [
                _side(path, side)
                for path, side in zip(self.paths, (found.before, found.after), strict=True)
            ],
            "figures": {each.name: _change(each) for each in found.figures},
            "survival": _change(found.survivals[0]),
            "survival_by_settings": {each.name: _change(each) for each in found.survivals[1:]},
            "stacks": [
                {"label": each.label, "before": each.before, "after": each.after}
                for each in found.stacks
            ],
            "stacks_same": found.stacks_same,
            "conditions": [
                {"text": each.condition.text, "met": each.met, **_change(each.figure)}
                for each in self.outcomes
            ],
            "failed": any(each.met for each in self.outcomes),
            "unverified": list(self.unverified),
        }


def _side(path: str, side: Side) -> dict[str, Any]:
    return {
        "path": path,
        "device": side.replay.device,
        "events": side.replay.events,
        "identical": side.replay.identical,
        "settings": side.settings.text(),
    }


def _change(each: Change) -> dict[str, Any]:
    return {
        "before": each.before,
        "after": each.after,
        "change": each.change,
        "relative": each.relative,
    }
