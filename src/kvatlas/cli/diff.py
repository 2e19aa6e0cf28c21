"""`kvatlas diff`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`diff_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import OUTPUT, Json, option

__all__ = ["diff"]


def diff(
    run_a: Annotated[str, typer.Argument(help="A recording: what was before.")],
    run_b: Annotated[str, typer.Argument(help="A recording: what is compared with it.")],
    json: Json = None,
    all_figures: Annotated[
        bool, option("--all", help="List every figure that moved, not the main ones.", panel=OUTPUT)
    ] = False,
) -> None:
    """Compare two recorded runs: which settings, which figures, and which requests changed."""
    from kvatlas.cli.diff_run import run_diff

    raise typer.Exit(run_diff(run_a, run_b, json, all_figures=all_figures))
