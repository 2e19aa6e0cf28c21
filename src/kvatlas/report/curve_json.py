"""The report on capacity as JSON.

Owns: the keys (docs/reference/curve-json.md). Leaves to others: the figures; how bytes are written
(`replay_json`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kvatlas.measure.curves import Ceiling, CurveTable
from kvatlas.report.curve_document import Bounds, CurveDocument, EnginePoint
from kvatlas.report.replay_json import json_bytes
from kvatlas.report.study_json import study_head

__all__ = ["SCHEMA", "curve_dict", "curve_json", "curve_rows", "engine_dict", "share_of"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""

_NO_BLOCK = "no block was looked up: every prompt is shorter than a block"
_NO_TOKEN = "no prompt token was looked up"
_NO_MODEL = "how many bytes a block takes depends on the model, and none was given"


def curve_json(document: CurveDocument) -> bytes:
    """Return the document as JSON; what is not known is null, never 0."""
    return json_bytes(curve_dict(document))


def curve_dict(document: CurveDocument) -> dict[str, Any]:
    """Return the documented JSON form, in plain types."""
    table = document.table
    bytes_per_block = document.config.get("bytes_per_block")
    return {
        **study_head(document, SCHEMA),
        "headline": list(document.headline),
        "queried_blocks": table.queried_blocks,
        "queried_tokens": table.queried_tokens,
        "distinct_blocks": document.distinct_blocks,
        "ceiling": _ceiling(document.ceiling) | {"warm": _ceiling(document.warm_ceiling)},
        "knee": {"capacity_blocks": document.knee.capacity_blocks},
        "bounds": {
            "knee": _bounds(document.knee),
            "focus": None if document.focus is None else _bounds(document.focus),
        },
        "curve": list(curve_rows(table, bytes_per_block)),
        "curve_note": document.table_note,
        "marks": [asdict(mark) for mark in document.marks],
        "engine": [engine_dict(point) for point in document.engine],
        "advice": [{**asdict(each), "reason": each.reason or None} for each in document.advice],
        "unavailable": _unavailable(document),
        "notes": list(document.notes),
        "timing": dict(document.timing),
    }


def share_of(hits: int, queried: int) -> float | None:
    """Return a hit rate, None where nothing was looked up."""
    return hits / queried if queried else None


def curve_rows(table: CurveTable, bytes_per_block: int | None) -> Iterator[dict[str, Any]]:
    """Yield the curve capacity by capacity, in plain types."""
    for at, blocks in enumerate(table.capacity_blocks.tolist()):
        hit_blocks, hit_tokens = int(table.hit_blocks[at]), int(table.hit_tokens[at])
        best_blocks = int(table.optimum_hit_blocks[at])
        best_tokens = int(table.optimum_hit_tokens[at])
        yield {
            "capacity_blocks": blocks,
            "capacity_bytes": None if bytes_per_block is None else blocks * bytes_per_block,
            "hit_blocks": hit_blocks,
            "hit_tokens": hit_tokens,
            "block_hit_rate": share_of(hit_blocks, table.queried_blocks),
            "token_hit_rate": share_of(hit_tokens, table.queried_tokens),
            "optimum_hit_blocks": best_blocks,
            "optimum_hit_tokens": best_tokens,
            "optimum_block_hit_rate": share_of(best_blocks, table.queried_blocks),
            "optimum_token_hit_rate": share_of(best_tokens, table.queried_tokens),
            "misses": {
                "policy_tokens": int(table.policy_tokens[at]),
                "capacity_tokens": int(table.capacity_tokens[at]),
                "granularity_tokens": table.granularity_tokens,
                "cold_tokens": table.cold_tokens,
            },
        }


def engine_dict(point: EnginePoint) -> dict[str, Any]:
    """Return a replay of the engine in plain types."""
    rate = point.token_hit_rate if point.queried_tokens else None
    return {**asdict(point), "token_hit_rate": rate}


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        **asdict(ceiling),
        "block_hit_rate": ceiling.block_hit_rate,
        "token_hit_rate": ceiling.token_hit_rate,
    }


def _bounds(bounds: Bounds) -> dict[str, Any]:
    said = asdict(bounds)
    names = ("content", "ceiling", "optimum", "lru", "engine")
    rates = {name: said.pop(name) for name in names}
    return {
        "capacity_blocks": said.pop("capacity_blocks"),
        "token_hit_rate": rates,
        **said,
    }


def _unavailable(document: CurveDocument) -> dict[str, str]:
    """Return why each null is null, by the path of its key."""
    reasons: dict[str, str] = {}
    for place, ceiling in (("ceiling", document.ceiling), ("ceiling.warm", document.warm_ceiling)):
        if ceiling.block_hit_rate is None:
            reasons[f"{place}.block_hit_rate"] = _NO_BLOCK
        if ceiling.token_hit_rate is None:
            reasons[f"{place}.token_hit_rate"] = _NO_TOKEN
    if not document.table.queried_blocks:
        reasons["curve.block_hit_rate"] = reasons["curve.optimum_block_hit_rate"] = _NO_BLOCK
    if not document.table.queried_tokens:
        reasons["curve.token_hit_rate"] = reasons["curve.optimum_token_hit_rate"] = _NO_TOKEN
    if document.config.get("bytes_per_block") is None:
        reasons["curve.capacity_bytes"] = reasons["advice.memory_bytes"] = _NO_MODEL
    if document.focus is None:
        reasons["bounds.focus"] = "no --blocks was given"
    elif document.focus.engine is None:
        reasons["bounds.focus.token_hit_rate.engine"] = "no replay was made at --blocks"
    if document.knee.engine is None:
        reasons["bounds.knee.token_hit_rate.engine"] = "no replay was made at the knee"
    if any(each.capacity_blocks is None for each in document.advice):
        reasons["advice.capacity_blocks"] = "no capacity reaches the target"
    if any(each.held_out_error is None for each in document.advice):
        reasons["advice.held_out_error"] = "a half of the trace does not reach the target"
    if any(each.high_blocks is None for each in document.advice):
        reasons["advice.high_blocks"] = "in too many resamples no capacity reaches the target"
    return reasons
