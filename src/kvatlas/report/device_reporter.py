"""`DeviceReporter`: every view of a snapshot's device in one place.

Owns: which method gives which view, and what the document takes from the twin. Leaves to others:
the views, the figures (`kvatlas.device`).
"""

from __future__ import annotations

from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np

from kvatlas.device.overview import Holder, overview_of
from kvatlas.device.results import Timeline
from kvatlas.device.twin import DeviceTwin
from kvatlas.report.device_report_document import DeviceReportDocument
from kvatlas.report.flame_files import StackWeight

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DeviceReporter"]

_COLUMNS = 240
_SERIES = ("reserved", "allocated", "stuck")


class DeviceReporter:
    """Shows one device of a snapshot: in a terminal, as a page, as files.

    Args:
        twin: of the device.
        path: the snapshot's, for titles.
        at: the moment of tables and flame graphs, see `kvatlas.device.overview`.
        shown: the events in the pictures, and among which the moment is chosen; None: all.
        version: kvatlas's. notes: plain sentences that a user must read.

    Raises: InputError (field `at`) for a moment that the trace has not.
    """

    def __init__(
        self,
        twin: DeviceTwin,
        path: str | PathLike[str],
        *,
        at: str = "auto",
        shown: range | None = None,
        version: str = "unknown",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.twin = twin
        found = overview_of(twin, at, shown)
        self.document = DeviceReportDocument(
            version=version,
            path=fspath(path),
            settings=twin.settings,
            found=found,
            shown=range(len(twin.trace)) if shown is None else shown,
            courses=_courses(found.recorded.timeline),
            notes=notes,
        )

    def terminal(self, console: Console | None = None) -> None:
        """Print the report, on standard output by default."""
        from kvatlas.report.console import make_console
        from kvatlas.report.device_report_terminal import print_device_report

        print_device_report(make_console() if console is None else console, self.document)

    def json(self) -> bytes:
        """Return the report as JSON (docs/guide/device.md)."""
        from kvatlas.report.replay_json import json_bytes

        return json_bytes(self.document.to_dict())

    def html(self) -> bytes:
        """Return the report as one self-contained page; O(events log events)."""
        from kvatlas.report.device_pack import device_data
        from kvatlas.report.device_report_html import device_report_html

        twin, timeline = self.twin, self.document.found.recorded.timeline
        lives = twin.lives(timeline)
        data = device_data(twin.snapshot, twin.trace, lives, timeline, self.document.shown)
        return device_report_html(self.document, data)

    def speedscope(self) -> bytes:
        """Return bytes held and kept stuck by stack, for https://www.speedscope.app."""
        from kvatlas.report.flame_files import speedscope

        document = self.document
        event, device = document.found.moment.event, document.found.recorded.device
        return speedscope(
            f"{document.path}, device {device}, event {event}",
            f"kvatlas {document.version}",
            (("bytes held", self._held), ("bytes kept stuck", self._stuck)),
        )

    def collapsed(self, *, stuck: bool = False) -> bytes:
        """Return bytes held (or kept stuck) by stack, a line for each."""
        from kvatlas.report.flame_files import collapsed

        return collapsed(self._stuck if stuck else self._held)

    @property
    def _holders(self) -> tuple[Holder, ...]:
        return self.document.found.holders

    @cached_property
    def _held(self) -> tuple[StackWeight, ...]:
        return tuple(StackWeight(one.calls, one.held_bytes) for one in self._holders)

    @cached_property
    def _stuck(self) -> tuple[StackWeight, ...]:
        return tuple(StackWeight(one.calls, one.stuck_bytes) for one in self._holders)


def _courses(timeline: Timeline) -> dict[str, tuple[float, ...]]:
    """Return the series thinned to some columns: the highest value in each."""
    courses = {}
    for name in _SERIES:
        values = getattr(timeline, f"{name}_bytes")
        first = np.linspace(0, values.size, min(_COLUMNS, values.size) + 1).astype(np.int64)[:-1]
        courses[name] = tuple(np.maximum.reduceat(values, first).astype(float).tolist())
    return courses
