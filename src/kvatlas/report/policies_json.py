"""The comparison of eviction policies as JSON.

Owns: the keys (docs/reference/policies-json.md). Leaves to others: the figures; how bytes are
written (`replay_json`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kvatlas.report.curve_document import PoliciesDocument, PolicyRow
from kvatlas.report.curve_json import SCHEMA, engine_dict, share_of
from kvatlas.report.replay_json import json_bytes
from kvatlas.report.study_json import study_head

__all__ = ["policies_dict", "policies_json", "policy_points"]


def policies_json(document: PoliciesDocument) -> bytes:
    """Return the document as JSON; what is not known is null, never 0."""
    return json_bytes(policies_dict(document))


def policies_dict(document: PoliciesDocument) -> dict[str, Any]:
    """Return the documented JSON form, in plain types."""
    return {
        **study_head(document, SCHEMA),
        "verdict": list(document.verdict),
        "queried_blocks": document.queried_blocks,
        "queried_tokens": document.queried_tokens,
        "knee": {"capacity_blocks": document.knee_blocks},
        "policies": {row.name: list(policy_points(document, row)) for row in document.rows},
        "about": {
            row.name: {
                "title": row.title,
                "summary": row.summary,
                "kind": row.kind,
                "seconds": row.seconds,
            }
            for row in document.rows
        },
        "engine": {
            name: [engine_dict(point) for point in points]
            for name, points in document.engine.items()
        },
        "unavailable": _unavailable(document),
        "notes": list(document.notes),
        "timing": dict(document.timing),
    }


def policy_points(document: PoliciesDocument, row: PolicyRow) -> Iterator[dict[str, Any]]:
    """Yield what one policy does, capacity by capacity, in plain types."""
    for at, blocks in enumerate(document.capacity_blocks.tolist()):
        hit_blocks, hit_tokens = int(row.hit_blocks[at]), int(row.hit_tokens[at])
        closed = float(row.gap_closed[at])
        yield {
            "capacity_blocks": blocks,
            "hit_blocks": hit_blocks,
            "hit_tokens": hit_tokens,
            "block_hit_rate": share_of(hit_blocks, document.queried_blocks),
            "token_hit_rate": share_of(hit_tokens, document.queried_tokens),
            "gap_closed": None if math.isnan(closed) else closed,
        }


def _unavailable(document: PoliciesDocument) -> dict[str, str]:
    reasons = {}
    if any(bool((row.gap_closed != row.gap_closed).any()) for row in document.rows):
        reasons["policies.gap_closed"] = "LRU hits as much as the optimum there"
    if not document.queried_blocks:
        reasons["policies.block_hit_rate"] = (
            "no block was looked up: every prompt is shorter than a block"
        )
    if not document.queried_tokens:
        reasons["policies.token_hit_rate"] = "no prompt token was looked up"
    return reasons
