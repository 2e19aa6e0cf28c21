"""`kvatlas device lint`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`device_lint_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.shared_flags import Json
from kvatlas.cli.taking import takes

__all__ = ["DeviceLintFlags", "device_lint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLintFlags:
    """What the user gave; `None` where nothing was given."""

    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Settings as PYTORCH_CUDA_ALLOC_CONF holds them; without it, those of the "
            "environment.",
        ),
    ] = None
    json: Json = None


@takes(DeviceLintFlags)
def device_lint(flags: DeviceLintFlags) -> None:
    """Say what PyTorch makes of allocator settings, and what they do not do. Exit code 1: traps."""
    from kvatlas.cli.device_lint_run import run_device_lint

    raise typer.Exit(run_device_lint(flags))
