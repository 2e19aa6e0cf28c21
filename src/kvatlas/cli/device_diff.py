"""`kvatlas device diff`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`device_diff_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.device_input import Device, Start
from kvatlas.cli.shared_flags import Json, option
from kvatlas.cli.taking import takes

__all__ = ["DeviceDiffFlags", "device_diff"]

_COMPARED, _GATE = "What is compared", "Gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDiffFlags:
    """What the user gave; `None` where nothing was given."""

    before: Annotated[str, typer.Argument(metavar="A", help="A memory snapshot: what was before.")]
    after: Annotated[
        str, typer.Argument(metavar="B", help="A memory snapshot: what is compared with it.")
    ]
    settings: Annotated[
        list[str] | None,
        option(
            "--settings",
            help="Settings to try on both, beside the recorded ones; repeatable. The defaults and "
            "expandable segments without it.",
            panel=_COMPARED,
            metavar="TEXT",
        ),
    ] = None
    fail_if: Annotated[
        list[str] | None,
        option(
            "--fail-if",
            help="Exit with 1 where this holds, such as survival>+2%, reserved>+512MiB or "
            "stuck>1GiB; repeatable.",
            panel=_GATE,
            metavar="CONDITION",
        ),
    ] = None
    start: Start = None
    device: Device = None
    json: Json = None


@takes(DeviceDiffFlags)
def device_diff(flags: DeviceDiffFlags) -> None:
    """Compare two memory snapshots, and fail where memory grew."""
    from kvatlas.cli.device_diff_run import run_device_diff

    raise typer.Exit(run_device_diff(flags))
