"""`kvatlas record`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`record_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import option

__all__ = ["record"]

_BOUNDS = "Bounds"


def record(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Where the recordings go, a folder per engine.")
    ],
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND...", help="What to run, such as `vllm serve MODEL`."),
    ],
    most_bytes: Annotated[
        str,
        option(
            "--max-bytes",
            help="What an engine's recording may take; the oldest is dropped for the newest.",
            panel=_BOUNDS,
            metavar="SIZE",
        ),
    ] = "256MiB",
    sample: Annotated[
        float,
        option(
            "--sample",
            help="Record this share of the steps, in windows of 64; 1 for all.",
            panel=_BOUNDS,
            metavar="SHARE",
        ),
    ] = 1.0,
    memory_interval: Annotated[
        float,
        option(
            "--memory-interval",
            help="Seconds between samples of the process's memory; 0 for none.",
            panel=_BOUNDS,
            metavar="S",
        ),
    ] = 1.0,
) -> None:
    """Run a command that starts vLLM, and record what happens to its KV-cache memory."""
    from kvatlas.cli.record_run import run_record

    run_record(folder, command, most_bytes, sample, memory_interval)
