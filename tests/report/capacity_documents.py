"""Documents about capacity to show: from a small trace, with everything in them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from kvatlas.measure.curves import CapacityStudy, CurveTable, spread
from kvatlas.report.curve_document import (
    Advice,
    Bounds,
    CurveDocument,
    EnginePoint,
    Mark,
    PoliciesDocument,
    PolicyRow,
)
from kvatlas.workload import Workload, generate

EVIL = "</script><script>window.evil=1</script>"
BLOCK_BYTES = 2 << 20


@cache
def trace() -> Workload:
    """Some conversations."""
    return generate("conversation", seed=4, num_requests=300)


@cache
def study() -> CapacityStudy:
    """What they say about capacity."""
    return CapacityStudy(trace(), 16)


def bounds(capacity: int, engine: float | None = None) -> Bounds:
    """The bounds at one capacity, the reason made up."""
    table = study().table([capacity])
    queried = table.queried_tokens
    lru = int(table.hit_tokens[0]) / queried
    optimum = lru + int(table.policy_tokens[0]) / queried
    ceiling = optimum + int(table.capacity_tokens[0]) / queried
    content = ceiling + table.granularity_tokens / queried
    reason = "3.2 points of the 4.1 points that are missing"
    return Bounds(capacity, content, ceiling, optimum, lru, engine, "policy", reason)


def curve_document(**changes: Any) -> CurveDocument:
    """A document with marks, engine points, advice that holds and advice that does not."""
    made = study()
    knee, focus = made.knee_blocks, 700
    tiers = (
        Mark("HBM", 900 * BLOCK_BYTES, 900, 0.31, 0.41, 1.45),
        Mark("HBM + host", 3000 * BLOCK_BYTES, 3000, 0.52, 0.56, 2.1),
    )
    capacities = {*spread(made.lru.blocks, 65).tolist(), knee, focus, 900, 3000}
    table = made.table(sorted(capacities))
    given: dict[str, Any] = {
        "title": "chats",
        "version": "9.8.7",
        "config": {
            "block_size": 16, "count_partial": False, "with_outputs": False, "blocks": focus,
            "model": "llama-3.1-8b", "bytes_per_block": BLOCK_BYTES, "prefill_share": 0.8,
        },
        "workload": {"requests": 300, "prompt_tokens": made.lru.queried_tokens},
        "table": table,
        "table_note": "65 capacities.",
        "ceiling": made.ceiling(),
        "warm_ceiling": made.ceiling(0.1),
        "distinct_blocks": made.distinct_blocks,
        "knee": bounds(knee),
        "focus": bounds(focus, 0.2),
        "marks": tiers,
        "engine": (
            EnginePoint(focus + 1, focus, 20_000, 100_000, 0.2, 3, 1),
            EnginePoint(knee + 1, knee, 0, 0, 0.0, 0, 300),
        ),
        "advice": (
            Advice(0.3, 812, 812 * BLOCK_BYTES, 700, 950, 815, 811, 0.0049, True),
            Advice(0.4, 1500, 1500 * BLOCK_BYTES, 1200, None, 1500, 2000, -0.25, False,
                   "the first half says 1,500 blocks, the second needs 2,000 (-25.0%)"),
            Advice(0.9, None, None, None, None, None, None, None, False,
                   "the first half reaches 61.00% at most"),
        ),
        "headline": ("Buy 812 blocks.", "A perfect policy would gain 3.2 points."),
        "notes": ("a note that must be read",),
        "timing": {"load_s": 0.1, "curve_s": 0.02, "optimum_s": 0.3, "total_s": 0.9},
    }  # fmt: skip
    return CurveDocument(**given | changes)


def without_rows(document: CurveDocument) -> CurveDocument:
    """The document as it is when Ctrl-C came before the first capacity."""
    empty = study().table([])
    return replace(document, table=empty, partial="interrupted after 0 of 70 capacities")


def table_of_nothing() -> CurveTable:
    """A trace whose prompts are all shorter than a block."""
    none = np.zeros(1, np.int64)
    return CurveTable(none + 1, none, none, none, none, none, none, 0, 30, 0, 30)


def policies_document(**changes: Any) -> PoliciesDocument:
    """Three policies and the bounds at seven capacities, the hits of two of them made up."""
    made = study()
    knee = made.knee_blocks
    capacity = np.array([max(1, knee * 2**k // 16) for k in range(7)], np.int64)
    table = made.table(capacity)
    best = table.optimum_hit_blocks - table.hit_blocks

    def row(name: str, title: str, kind: str, blocks: Any, tokens: Any) -> PolicyRow:
        closed = np.full(capacity.size, np.nan)
        np.divide(blocks - table.hit_blocks, best, out=closed, where=best > 0)
        summary = f"what {title} evicts"
        return PolicyRow(name, title, summary, kind, blocks, tokens, closed, 0.25)  # type: ignore[arg-type]

    most = np.full(capacity.size, made.lru.blocks.most)
    most_tokens = np.full(capacity.size, made.lru.most_tokens)
    given: dict[str, Any] = {
        "title": "chats",
        "version": "9.8.7",
        "config": {"block_size": 16, "count_partial": False, "blocks": None},
        "workload": {"requests": 300, "prompt_tokens": made.lru.queried_tokens},
        "capacity_blocks": capacity,
        "queried_blocks": made.lru.queried_blocks,
        "queried_tokens": made.lru.queried_tokens,
        "knee_blocks": knee,
        "rows": (
            row("lru", "LRU", "policy", table.hit_blocks, table.hit_tokens),
            row("good", "Good", "policy", table.hit_blocks + best // 2,
                table.hit_tokens + 8 * best),
            row("bad", "Bad", "policy", table.hit_blocks // 2, table.hit_tokens // 2),
            row("optimum", "Optimum", "bound", table.optimum_hit_blocks, table.optimum_hit_tokens),
            row("ceiling", "Ceiling", "bound", most, most_tokens),
        ),
        "engine": {
            "lru": (EnginePoint(knee + 1, knee, 300, 1000, 0.3, 2, 0),),
            "good": (EnginePoint(knee + 1, knee, 340, 1000, 0.34, 1, 0),),
        },
        "verdict": ("Stay on LRU: there is little to gain.", "Bad loses 9.0 points."),
        "notes": ("a note that must be read",),
        "timing": {"load_s": 0.1, "policies_s": 3.0, "total_s": 3.4},
    }  # fmt: skip
    return PoliciesDocument(**given | changes)
