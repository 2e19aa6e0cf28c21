"""`kvatlas map`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`map_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import option

__all__ = ["map_blocks"]

_MOMENT, _LOOK = "Moment", "Look"


def map_blocks(
    run: Annotated[
        str, typer.Argument(help="A recording, such as `kvatlas replay --events RUN` writes.")
    ],
    at: Annotated[
        str | None,
        option(
            "--at",
            help="The moment on the run's clock, such as 90, 2.5min or 50%; the end by default.",
            panel=_MOMENT,
            metavar="TIME",
        ),
    ] = None,
    event: Annotated[
        int | None,
        option("--event", help="The moment after N events.", panel=_MOMENT, metavar="N"),
    ] = None,
    by: Annotated[
        str,
        option("--by", help="What a cell shows.", panel=_LOOK, metavar="[state|owner|group]"),
    ] = "state",
    width: Annotated[
        int | None,
        option(
            "--width",
            help="Columns of the map: the terminal's by default.",
            panel=_LOOK,
            metavar="COLS",
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        option(
            "--blocks",
            help="Blocks A to B - 1 only, as large as they fit.",
            panel=_LOOK,
            metavar="A:B",
        ),
    ] = None,
    ascii: Annotated[bool, option("--ascii", help="No characters but ASCII.", panel=_LOOK)] = False,
) -> None:
    """Show every block of the pool at one moment of a recorded run."""
    from kvatlas.cli.map_run import MapFlags, run_map

    run_map(MapFlags(run, at, event, by, width, blocks, ascii))
