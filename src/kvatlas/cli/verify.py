"""`kvatlas verify`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`verify_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import Json, option

__all__ = ["verify"]


def verify(
    recording: Annotated[
        str,
        typer.Argument(help="The folder that `kvatlas record` or KVATLAS_RECORD filled."),
    ],
    engine: Annotated[
        int | None,
        option(
            "--engine",
            help="Only the engines of this data-parallel rank.",
            panel="Engines",
            metavar="RANK",
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Make a recorded server's calls through the twin: the same blocks, or the first difference.

    The exit code is 0 when all is identical and 1 when it is not.
    """
    from kvatlas.cli.verify_run import run_verify

    raise typer.Exit(run_verify(recording, engine, json))
