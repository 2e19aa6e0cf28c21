"""`kvatlas top`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`top_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import option

__all__ = ["top"]

_PLAY, _LOOK = "A finished recording", "Look"


def top(
    run: Annotated[
        str,
        typer.Argument(
            help="A folder that a vLLM server records into (KVATLAS_RECORD), now or later, or a "
            "finished recording."
        ),
    ],
    speed: Annotated[
        float | None,
        option(
            "--speed",
            help="Play what is recorded at X times its own clock, 0 as fast as it goes. A file is "
            "played at 1 by default, a folder is followed as it grows.",
            panel=_PLAY,
            metavar="X",
        ),
    ] = None,
    interval: Annotated[
        float,
        option("--interval", help="Seconds between two looks.", panel=_LOOK, metavar="S"),
    ] = 1.0,
    ascii: Annotated[bool, option("--ascii", help="No characters but ASCII.", panel=_LOOK)] = False,
    once: Annotated[
        bool,
        option("--once", help="Print one screen of what there is now and leave.", panel=_LOOK),
    ] = False,
) -> None:
    """Watch the KV memory of a running vLLM in the terminal, or play a recording."""
    from kvatlas.cli.top_run import TopFlags, run_top

    raise typer.Exit(run_top(TopFlags(run, speed, interval, ascii, once)))
