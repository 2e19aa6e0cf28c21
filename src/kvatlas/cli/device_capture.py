"""`kvatlas device capture`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`device_capture_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.shared_flags import Json, option
from kvatlas.cli.taking import takes

__all__ = [
    "DEFAULT_MAX_EVENTS",
    "DEFAULT_STACKS",
    "DEFAULT_WAIT_S",
    "DeviceCaptureFlags",
    "device_capture",
]

_ASKING, _STARTING = "Asking a running server", "Starting a server"
DEFAULT_WAIT_S = 60.0
DEFAULT_MAX_EVENTS = 100_000
DEFAULT_STACKS = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCaptureFlags:
    """What the user gave; `None` where nothing was given."""

    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Where the server's processes write their snapshots."),
    ]
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND...",
            help="What to run with the history on, such as `vllm serve MODEL`. Without it: ask the "
            "processes that record into DIR for a snapshot each.",
        ),
    ] = None
    wait: Annotated[
        float,
        option(
            "--wait",
            help="Seconds to wait for answers; a long history takes some to write.",
            panel=_ASKING,
            metavar="S",
        ),
    ] = DEFAULT_WAIT_S
    max_events: Annotated[
        int,
        option(
            "--max-events",
            help="How many of the newest events PyTorch keeps.",
            panel=_STARTING,
            metavar="N",
        ),
    ] = DEFAULT_MAX_EVENTS
    stacks: Annotated[
        str,
        option(
            "--stacks",
            help="Python's calls, or native ones, too.",
            panel=_STARTING,
            metavar="[python|all]",
        ),
    ] = DEFAULT_STACKS
    json: Json = None


@takes(DeviceCaptureFlags)
def device_capture(flags: DeviceCaptureFlags) -> None:
    """Snapshot a server's device memory: start it with the history on, or ask a running one."""
    from kvatlas.cli.device_capture_run import run_device_capture

    raise typer.Exit(run_device_capture(flags))
