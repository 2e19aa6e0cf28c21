"""`kvatlas bench placement`: the verb.

Owns: its name in the help. Leaves to others: the flags (`bench_placement_flags`), what happens
(`bench_placement_run`).
"""

from __future__ import annotations

import typer

from kvatlas.cli.bench_placement_flags import ENGINE_PANEL, PLACEMENT_PANEL, PlacementFlags
from kvatlas.cli.capacity_flags import CAPACITIES, ENGINE
from kvatlas.cli.taking import takes

__all__ = ["bench_placement"]


@takes(PlacementFlags, panels=(CAPACITIES, PLACEMENT_PANEL, ENGINE_PANEL, ENGINE))
def bench_placement(flags: PlacementFlags) -> None:
    """Compare placement policies: runs per request, hits, time per block, free runs, pages."""
    from kvatlas.cli.bench_placement_run import run_placement

    raise typer.Exit(run_placement(flags))
