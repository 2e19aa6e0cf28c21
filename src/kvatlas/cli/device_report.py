"""`kvatlas device report`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`device_report_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.device_input import Device
from kvatlas.cli.shared_flags import OUTPUT, Json, option
from kvatlas.cli.taking import takes

__all__ = ["DeviceReportFlags", "device_report"]

_WHAT = "What is shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReportFlags:
    """What the user gave; `None` where nothing was given."""

    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="What torch.cuda.memory._dump_snapshot() wrote."),
    ]
    events: Annotated[
        str | None,
        option(
            "--events",
            help="Pictures of events A to B - 1 only; either may be left out, negative ones count "
            "from the end. Without it: all, or the last million.",
            panel=_WHAT,
            metavar="A:B",
        ),
    ] = None
    at: Annotated[
        str,
        option(
            "--at",
            help="The moment of the tables, the flame graph files and the page's beginning: after "
            "this event, or the peak of one kind of bytes, the first failure, the end. Without "
            "it: the first failure, or else most bytes stuck.",
            panel=_WHAT,
            metavar="[EVENT|stuck|reserved|allocated|oom|end]",
        ),
    ] = "auto"
    device: Device = None
    json: Json = None
    html: Annotated[
        str | None,
        option("--html", help="Write the pictures as one HTML page.", panel=OUTPUT, metavar="PATH"),
    ] = None
    speedscope: Annotated[
        str | None,
        option(
            "--speedscope",
            help="Write bytes by stack, held and stuck, for speedscope.app.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None
    collapsed: Annotated[
        str | None,
        option(
            "--collapsed",
            help="Write bytes held by stack as lines, for flamegraph.pl and others.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None
    collapsed_stuck: Annotated[
        str | None,
        option(
            "--collapsed-stuck",
            help="The same with the bytes that each stack keeps stuck.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None


@takes(DeviceReportFlags)
def device_report(flags: DeviceReportFlags) -> None:
    """Show a snapshot: what was reserved, allocated and stuck when, where, and by whom."""
    from kvatlas.cli.device_report_run import run_device_report

    raise typer.Exit(run_device_report(flags))
