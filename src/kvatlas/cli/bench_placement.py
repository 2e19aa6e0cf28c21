"""`kvatlas bench placement`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`bench_placement_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import CAPACITIES, ENGINE, StudyFlags
from kvatlas.cli.shared_flags import option
from kvatlas.cli.taking import takes

__all__ = ["PlacementFlags", "bench_placement"]

_PLACEMENT, _ENGINE = "Placement", "Full scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementFlags(StudyFlags):
    """What `kvatlas bench placement` takes."""

    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool, vLLM's null block included, as for kvatlas replay. By "
            "default an eighth of the trace's different blocks, within bounds.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = None
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which placement policies, all of them by default. The queue is always there.",
            panel=_PLACEMENT,
            metavar="NAME,NAME,...",
        ),
    ] = None
    page_blocks: Annotated[
        int,
        option(
            "--page-blocks",
            help="Consecutive blocks that are mapped and released together. 32 blocks of 16 "
            "tokens are 2 MiB of one layer of Llama 3 8B.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = 32
    copy_blocks: Annotated[
        int | None,
        option(
            "--copy-blocks",
            help="The most blocks that one copy descriptor may move; any number by default.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = None
    scheduler: Annotated[
        bool,
        option(
            "--scheduler",
            help="Run them in the full scheduler too: many requests at once, chunked prompts, "
            "answers block by block.",
            panel=_ENGINE,
        ),
    ] = False


@takes(PlacementFlags, panels=(CAPACITIES, _PLACEMENT, _ENGINE, ENGINE))
def bench_placement(flags: PlacementFlags) -> None:
    """Compare placement policies: runs per request, hits, time per block, free runs, pages."""
    from kvatlas.cli.bench_placement_run import run_placement

    raise typer.Exit(run_placement(flags))
