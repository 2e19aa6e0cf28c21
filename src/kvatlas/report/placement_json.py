"""The comparison of placement policies as JSON, and as CSV.

Owns: the keys (docs/reference/bench-json.md) and columns. Leaves to others: the figures; how bytes
are written (`replay_json`, `capacity_csv`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kvatlas.measure.fragmentation.result import UFSI_ORDERS
from kvatlas.report.capacity_csv import csv_bytes
from kvatlas.report.placement_document import PlacementDocument, PlacementRow
from kvatlas.report.replay_json import json_bytes
from kvatlas.report.study_json import study_head

__all__ = ["SCHEMA", "placement_csv", "placement_dict", "placement_json", "placement_points"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


def placement_json(document: PlacementDocument) -> bytes:
    """Return the document as JSON; what is not known is null, never 0."""
    return json_bytes(placement_dict(document))


def placement_dict(document: PlacementDocument) -> dict[str, Any]:
    """Return the documented JSON form, in plain types."""
    asked = bool(document.config.get("scheduler"))
    return {
        **study_head(document, SCHEMA),
        "pool": {"num_blocks": document.num_blocks, "reason": document.pool_note},
        "verdict": list(document.verdict),
        "policies": _by_name(document.open_loop),
        "scheduler": _by_name(document.scheduler) if asked else None,
        "about": {
            row.name: {
                "title": row.title,
                "summary": row.summary,
                "source": row.source,
                "seconds": row.seconds,
            }
            for row in document.open_loop
        },
        "unavailable": _unavailable(document),
        "notes": list(document.notes),
        "timing": dict(document.timing),
    }


def placement_csv(document: PlacementDocument) -> bytes:
    """Return one row per policy and way to drive it; an empty cell is what is not known."""
    ways = (("open_loop", document.open_loop), ("scheduler", document.scheduler))
    return csv_bytes(
        {"driven": way, "policy": row.name, **_flat(placement_points(rows[0], row))}
        for way, rows in ways
        for row in rows
    )


def placement_points(queue: PlacementRow, row: PlacementRow) -> dict[str, Any]:
    """Return all figures of one policy, in plain types; `queue` is what it is held against."""
    tables, free = row.measured.tables, row.measured.free
    return {
        "requests": tables.requests,
        "never_served": row.never_served,
        "runs_per_request": _known(row.runs_per_request),
        "fewer_runs": _known(row.times_fewer(queue)),
        "runs_p50": tables.runs_quantile(0.5) if tables.requests else None,
        "runs_p99": tables.runs_quantile(0.99) if tables.requests else None,
        "blocks_per_request": _known(tables.mean("blocks")),
        "descriptors_per_request": _known(tables.mean("copies")),
        "any_order_runs_per_request": _known(tables.mean("any_order_runs")),
        "any_order_descriptors_per_request": _known(tables.mean("any_order_copies")),
        "hit_tokens": row.hit_tokens,
        "queried_tokens": row.queried_tokens,
        "token_hit_rate": _known(row.token_hit_rate),
        "hit_rate_change": _known(row.rate_change(queue)),
        "same_hits": row.same_hits,
        "preemptions": row.preemptions,
        "allocated_blocks": row.allocated_blocks,
        "allocations": row.allocations,
        "ns_per_block": _known(row.ns_per_block),
        "looks": free.looks,
        "free_blocks": _known(free.free_blocks),
        "free_runs": _known(free.runs),
        "free_run_p50": free.quantile(0.5) if free.looks else None,
        "free_run_p99": free.quantile(0.99) if free.looks else None,
        "largest_free_run": _known(free.largest),
        "efi": _known(free.efi),
        "ufsi": {f"order_{order}": _known(float(free.ufsi[order])) for order in UFSI_ORDERS},
        "free_run_histogram": _histogram(row),
        "page_blocks": free.blocks_per_page,
        "free_pages": _known(free.free_pages),
        "packed_pages": _known(free.packed_pages),
        "empty_pages": _known(free.empty_pages),
    }


def _by_name(rows: Sequence[PlacementRow]) -> dict[str, Any]:
    return {row.name: placement_points(rows[0], row) for row in rows}


def _histogram(row: PlacementRow) -> list[dict[str, Any]]:
    """Return mean free runs by length in powers of two; those that never occurred are left out."""
    free = row.measured.free
    lengths = free.by_length.nonzero()[0]
    sums: dict[int, int] = {}
    for length, times in zip(lengths.tolist(), free.by_length[lengths].tolist(), strict=True):
        least = 1 << (length.bit_length() - 1)
        sums[least] = sums.get(least, 0) + times
    return [
        {"least": least, "most": 2 * least - 1, "runs": times / free.looks}
        for least, times in sums.items()
    ]


def _flat(points: dict[str, Any]) -> dict[str, Any]:
    ufsi = points.pop("ufsi")
    del points["free_run_histogram"]
    return points | {f"ufsi_{order}": value for order, value in ufsi.items()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _unavailable(document: PlacementDocument) -> dict[str, str]:
    """Return why each null is null, by the path of its key."""
    reasons: dict[str, str] = {}
    if not document.config.get("scheduler"):
        reasons["scheduler"] = "--scheduler was not given"
    ways = (("policies", document.open_loop), ("scheduler", document.scheduler))
    for way, rows in ways:
        for row in rows:
            if not row.measured.tables.requests:
                reasons[f"{way}.runs_per_request"] = "no request ran to its end"
            if not row.queried_tokens:
                reasons[f"{way}.token_hit_rate"] = "no prompt token was looked up"
            if not row.allocated_blocks:
                reasons[f"{way}.ns_per_block"] = "no block was allocated"
            if math.isnan(row.measured.free.efi):
                reasons[f"{way}.efi"] = "no look saw a free block"
    return reasons
