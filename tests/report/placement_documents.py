"""A comparison of placements to show, with everything in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kvatlas.measure.contiguity import ContiguityResult, FreeRuns, TableEnds
from kvatlas.report.placement_document import PlacementDocument, PlacementRow

EVIL = "</script><script>window.evil=1</script>"


def ends(runs: list[int], hit: int = 320) -> TableEnds:
    """Requests of 40 blocks that ended with so many runs."""
    made = np.array(runs, np.int32)
    return TableEnds(
        finished=made > 0,
        blocks=np.where(made > 0, np.int32(40), np.int32(0)),
        runs=made,
        any_order_runs=np.minimum(made, 3).astype(np.int32),
        copies=made + np.int32(1),
        any_order_copies=np.minimum(made, 4).astype(np.int32),
        hit_tokens=np.full(made.size, hit, np.int64),
        queried_tokens=np.full(made.size, 640, np.int64),
    )


def free_runs(lengths: list[int], looks: int = 2) -> FreeRuns:
    """Looks that together saw free runs of these lengths."""
    by_length = np.bincount(lengths, minlength=1).astype(np.int64)
    return FreeRuns(
        looks=looks,
        by_length=by_length,
        free_blocks=sum(lengths) / looks,
        runs=len(lengths) / looks,
        largest=float(max(lengths)),
        efi=0.25,
        ufsi=np.linspace(0, 1, 27),
        blocks_per_page=32,
        free_pages=3.5,
        packed_pages=5.0,
        empty_pages=0.5,
    )


def row(name: str, runs: list[int], *, hit: int = 320, pool_s: float = 1e-4) -> PlacementRow:
    """One policy, its summary made up."""
    return PlacementRow(
        name=name,
        title=name.capitalize(),
        summary=f"what {name} does",
        source="kvatlas",
        measured=ContiguityResult(ends(runs, hit), free_runs([1, 2, 2, 9, 150])),
        same_hits=hit == 320,
        never_served=0,
        preemptions=7,
        allocated_blocks=1000,
        allocations=40,
        pool_s=pool_s,
        seconds=0.5,
    )


def nobody() -> PlacementRow:
    """A policy under which nobody was served."""
    measured = ContiguityResult(
        ends([0, 0], hit=0),
        FreeRuns(
            looks=0,
            by_length=np.zeros(1, np.int64),
            free_blocks=float("nan"),
            runs=float("nan"),
            largest=float("nan"),
            efi=float("nan"),
            ufsi=np.full(27, np.nan),
            blocks_per_page=32,
            free_pages=float("nan"),
            packed_pages=float("nan"),
            empty_pages=float("nan"),
        ),
    )
    measured.tables.queried_tokens[:] = 0
    made = row("queue", [1])
    return replace(made, measured=measured, allocated_blocks=0, allocations=0, never_served=2)


def placement_document(**changes: Any) -> PlacementDocument:
    """A document with both ways to drive the policies."""
    document = PlacementDocument(
        title="conversation",
        version="9.9",
        config={"block_size": 16, "copy_blocks": None, "page_blocks": 32, "scheduler": True},
        workload={"requests": 4, "prompt_tokens": 2560},
        num_blocks=200,
        pool_note="as asked for by --blocks",
        open_loop=(
            row("queue", [40, 20, 30, 10]),
            row("sorted", [4, 2, 3, 1], pool_s=2e-4),
            row("window", [2, 2, 2, 2], hit=319, pool_s=3e-4),
        ),
        scheduler=(row("queue", [40, 40, 40, 40]), row("sorted", [35, 35, 35, 35])),
        verdict=("Sorted is worth it.", "All blocks are equal."),
        notes=("a note that must be read",),
        timing={"load_s": 0.1, "open_loop_s": 1.0, "total_s": 1.2},
    )
    return replace(document, **changes)
