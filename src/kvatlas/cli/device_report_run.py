"""`kvatlas device report`: what it does, from flags to views.

Owns: ranges and moments in flags, the order of things, Ctrl-C. Leaves to others: what is found
(`device_found`), views (`kvatlas.report`).
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
    from kvatlas.cli.device_found import Found

__all__ = ["MOST_EVENTS", "event_range", "run_device_report"]

MOST_EVENTS = 1_000_000
"""What a page shows at most: more take a browser seconds to open."""


def run_device_report(flags: DeviceReportFlags) -> int:
    """Read, replay, write and print, return the exit code: 0, or 130 after Ctrl-C.

    Raises: InputError.
    """
    _check_outputs(flags)
    try:
        from kvatlas.cli.device_found import find

        twin = open_twin(flags.snapshot, flags.device)
        shown = event_range(flags.events, len(twin.trace))
        found = find(twin, flags, shown)
        written = list(_views(flags, found))
        for flag, path, content in written:
            write_output(path, content, flag)
    except KeyboardInterrupt:
        print("kvatlas: interrupted; nothing was written", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.device_report_terminal import print_device_report

        print_device_report(make_console(), found.document)
    return 0


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


def _views(flags: DeviceReportFlags, found: Found) -> Iterator[tuple[str, str, bytes]]:
    """Yield flag, path and content of every file; all are made before the first is written."""
    document = found.document
    if flags.html is not None:
        from kvatlas.report.device_report_html import device_report_html

        yield "--html", flags.html, device_report_html(document)
    if flags.speedscope is not None:
        from kvatlas.report.flame_files import speedscope

        event = document.moment.event
        title = f"{document.path}, device {document.recorded.device}, event {event}"
        profiles = (("bytes held", found.held), ("bytes kept stuck", found.stuck))
        content = speedscope(title, f"kvatlas {document.version}", profiles)
        yield "--speedscope", flags.speedscope, content
    from kvatlas.report.flame_files import collapsed

    for flag, path, weights in (
        ("--collapsed", flags.collapsed, found.held),
        ("--collapsed-stuck", flags.collapsed_stuck, found.stuck),
    ):
        if path is not None:
            yield flag, path, collapsed(weights)
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        yield "--json", flags.json, json_bytes(document.to_dict())


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
