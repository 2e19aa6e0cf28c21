"""`kvatlas device what-if`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`device_what_if_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.device_input import Device, Start
from kvatlas.cli.shared_flags import Json, option
from kvatlas.cli.taking import takes

__all__ = ["DeviceWhatIfFlags", "device_what_if"]

_TRIED = "What is tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWhatIfFlags:
    """What the user gave; `None` where nothing was given."""

    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="What torch.cuda.memory._dump_snapshot() wrote."),
    ]
    settings: Annotated[
        list[str] | None,
        option(
            "--settings",
            help="As PYTORCH_CUDA_ALLOC_CONF holds them; repeatable, an empty text stands for the "
            "defaults. Without it: the recorded ones and some worth trying.",
            panel=_TRIED,
            metavar="TEXT",
        ),
    ] = None
    memory: Annotated[
        str | None,
        option(
            "--memory",
            help="What the driver can give this process, such as 79GiB: who runs out of memory? "
            "Without it there is no limit.",
            panel=_TRIED,
            metavar="SIZE",
        ),
    ] = None
    fraction: Annotated[
        float | None,
        option(
            "--fraction",
            help="PyTorch's memory fraction, for settings that hold no "
            "per_process_memory_fraction. Garbage collection gets 0.99, for it acts only under "
            "one.",
            panel=_TRIED,
            metavar="SHARE",
        ),
    ] = None
    start: Start = None
    device: Device = None
    json: Json = None


@takes(DeviceWhatIfFlags)
def device_what_if(flags: DeviceWhatIfFlags) -> None:
    """Run a snapshot's requests again under other settings, or in other memory."""
    from kvatlas.cli.device_what_if_run import run_device_what_if

    raise typer.Exit(run_device_what_if(flags))
