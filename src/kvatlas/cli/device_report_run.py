"""`kvatlas device report`: what it does, from flags to views.

Owns: ranges and moments in flags, the order of things, Ctrl-C. Leaves to others: what is found
and shown (`kvatlas.report.device_reporter`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvatlas.cli.device_input import open_twin
from kvatlas.cli.device_report import DeviceReportFlags
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.report.device_reporter import DeviceReporter

__all__ = ["MOST_EVENTS", "event_range", "run_device_report"]

MOST_EVENTS = 1_000_000
"""What a page shows at most: more take a browser seconds to open."""


def run_device_report(flags: DeviceReportFlags) -> int:
    """Read, replay, write and print, return the exit code: 0, or 130 after Ctrl-C.

    Raises: InputError.
    """
    _check_outputs(flags)
    try:
        reporter = _reporter(flags)
        files = list(_files(flags, reporter))
        for flag, path, content in files:
            write_output(path, content, flag)
        if flags.json != STDOUT:
            reporter.terminal()
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return 0


def _reporter(flags: DeviceReportFlags) -> DeviceReporter:
    from kvatlas.cli.version import version
    from kvatlas.report.device_reporter import DeviceReporter

    twin = open_twin(flags.snapshot, flags.device)
    events = len(twin.trace)
    shown = event_range(flags.events, events)
    notes: tuple[str, ...] = ()
    if flags.events is None and len(shown) < events:
        text = (
            f"the pictures show the last {len(shown):,} of {events:,} events; --events shows others"
        )
        notes = (text,)
    try:
        return DeviceReporter(
            twin, flags.snapshot, at=flags.at, shown=shown, version=version(), notes=notes
        )
    except InputError as error:
        if error.field == "at":
            error.field = "--at"
        raise


def event_range(text: str | None, events: int) -> range:
    """Return the events that the pictures show. Raises: InputError naming --events."""
    if text is None:
        return range(max(0, events - MOST_EVENTS), events)
    first, colon, end = text.partition(":")
    try:
        bounds = [int(part) if part.strip() else None for part in (first, end)]
    except ValueError:
        bounds, colon = [], ""
    if not colon:
        raise InputError(
            "not a range of events",
            field="--events",
            value=text,
            remedy="write A:B, such as 0:5000",
        )
    shown = range(*slice(*bounds).indices(events))
    if not shown:
        raise InputError(
            f"no event of this trace, which has {events:,}",
            field="--events",
            value=text,
            remedy=f"name some of 0:{events}",
        )
    if len(shown) > MOST_EVENTS:
        raise InputError(
            f"{len(shown):,} events are more than a page shows ({MOST_EVENTS:,})",
            field="--events",
            value=text,
            remedy=f"name fewer, such as {shown.start}:{shown.start + MOST_EVENTS}",
        )
    return shown


def _files(flags: DeviceReportFlags, reporter: DeviceReporter) -> Iterator[tuple[str, str, bytes]]:
    """Yield flag, path and content of every file; all are made before the first is written."""
    if flags.html is not None:
        yield "--html", flags.html, reporter.html()
    if flags.speedscope is not None:
        yield "--speedscope", flags.speedscope, reporter.speedscope()
    if flags.collapsed is not None:
        yield "--collapsed", flags.collapsed, reporter.collapsed()
    if flags.collapsed_stuck is not None:
        yield "--collapsed-stuck", flags.collapsed_stuck, reporter.collapsed(stuck=True)
    if flags.json is not None:
        yield "--json", flags.json, reporter.json()


def _check_outputs(flags: DeviceReportFlags) -> None:
    files = {
        "--html": flags.html,
        "--speedscope": flags.speedscope,
        "--collapsed": flags.collapsed,
        "--collapsed-stuck": flags.collapsed_stuck,
        "--json": flags.json,
    }
    for flag, path in files.items():
        if path is not None:
            require_writable(path, flag, flags.snapshot)
            if path == STDOUT and flag != "--json":
                raise InputError("not for a terminal", field=flag, remedy="name a file")
    named = [os.path.realpath(path) for path in files.values() if path not in (None, STDOUT)]
    if len(set(named)) < len(named):
        raise InputError("two reports in one file", value=named[0], remedy="name another file")
