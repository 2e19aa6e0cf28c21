"""What `kvatlas bench placement` takes: its flags.

Owns: their names, defaults and help. Leaves to others: what happens (`bench_placement_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvatlas.cli.capacity_flags import StudyFlags
from kvatlas.cli.shared_flags import option

__all__ = ["ENGINE_PANEL", "PLACEMENT_PANEL", "PlacementFlags"]

PLACEMENT_PANEL, ENGINE_PANEL = "Placement", "Full scheduler"
"""Groups of flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementFlags(StudyFlags):
    """What `kvatlas bench placement` takes."""

    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool, vLLM's null block included, as for kvatlas replay. By "
            "default an eighth of the trace's different blocks, within bounds.",
            panel=PLACEMENT_PANEL,
            metavar="N",
        ),
    ] = None
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which placement policies, all of them by default. The queue is always there.",
            panel=PLACEMENT_PANEL,
            metavar="NAME,NAME,...",
        ),
    ] = None
    page_blocks: Annotated[
        int,
        option(
            "--page-blocks",
            help="Consecutive blocks that are mapped and released together. 32 blocks of 16 "
            "tokens are 2 MiB of one layer of Llama 3 8B.",
            panel=PLACEMENT_PANEL,
            metavar="N",
        ),
    ] = 32
    copy_blocks: Annotated[
        int | None,
        option(
            "--copy-blocks",
            help="The most blocks that one copy descriptor may move; any number by default.",
            panel=PLACEMENT_PANEL,
            metavar="N",
        ),
    ] = None
    scheduler: Annotated[
        bool,
        option(
            "--scheduler",
            help="Run them in the full scheduler too: many requests at once, chunked prompts, "
            "answers block by block.",
            panel=ENGINE_PANEL,
        ),
    ] = False
