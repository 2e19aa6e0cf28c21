"""What the comparison of eviction policies lists, as texts.

Owns: columns, rows, digits and their words. Leaves to others: looks (`text_table`), every figure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.capacity_axis import CapacityUnits, short_count
from kvatlas.report.curve_document import PoliciesDocument, PolicyRow
from kvatlas.report.curve_tables import rate_or_dash, signed_points
from kvatlas.report.numbers import count, seconds
from kvatlas.report.text_table import TextTable

__all__ = [
    "about_table",
    "by_capacity_table",
    "focus_index",
    "focus_table",
    "policies_engine_table",
    "policies_units",
]

_DASH = "–"
_LRU = "lru"


def policies_units(document: PoliciesDocument) -> CapacityUnits:
    """Return what a block of this document is."""
    return CapacityUnits(
        int(document.config["block_size"]), document.config.get("bytes_per_block") or None
    )


def focus_index(document: PoliciesDocument) -> int:
    """Return the number of the capacity that is looked at first: --blocks, or the knee."""
    focus = document.config.get("blocks") or document.knee_blocks
    return int(np.argmin(np.abs(document.capacity_blocks - focus)))


def focus_table(document: PoliciesDocument) -> TextTable:
    """Return all policies at that capacity, the best first, with how far each lies from LRU."""
    at = focus_index(document)
    blocks = int(document.capacity_blocks[at])
    lru = next(row for row in document.rows if row.name == _LRU)
    policies = [row for row in document.rows if row.kind == "policy"]
    bounds = [row for row in document.rows if row.kind == "bound"]
    order = sorted(policies, key=lambda row: -int(row.hit_blocks[at]))
    rows = []
    for row in [*order, *bounds]:
        against = _points(row, lru, document)
        closed = float(row.gap_closed[at])
        is_policy = row.kind == "policy" and row.name != _LRU
        lowest = int(np.argmin(against)) if is_policy else 0
        rows.append(
            (
                row.title,
                rate_or_dash(int(row.hit_blocks[at]), document.queried_blocks),
                rate_or_dash(int(row.hit_tokens[at]), document.queried_tokens),
                _DASH if row.name == _LRU else signed_points(against[at]),
                _DASH if math.isnan(closed) or not is_policy else f"{closed:.0%}",
                signed_points(against[lowest]) if is_policy else _DASH,
            )
        )
    marked = [number for number, row in enumerate(order) if row.name == _LRU]
    return TextTable(
        title=f"Policies at {count(blocks)} blocks",
        remark=_focus_name(document, blocks),
        columns=("", "block hit rate", "token hit rate", "to LRU", "gap closed", "worst"),
        rows=tuple(rows),
        note="to LRU: percentage points of block hit rate; gap closed: share of the way from LRU "
        "to the optimum; worst: points to LRU where the policy does worst",
        marked=frozenset(marked),
    )


def _focus_name(document: PoliciesDocument, blocks: int) -> str:
    if document.config.get("blocks") == blocks:
        return "as asked for by --blocks"
    return "the knee of the LRU curve" if blocks == document.knee_blocks else ""


def by_capacity_table(document: PoliciesDocument, most: int | None = None) -> TextTable:
    """Return points to LRU by capacity, at most `most` of them."""
    capacities = document.capacity_blocks
    shown = list(range(capacities.size))
    if most is not None and capacities.size > most:
        even = {round((capacities.size - 1) * i / (most - 1)) for i in range(most)}
        focus = focus_index(document)
        if focus not in even:
            even.discard(min(even - {0, capacities.size - 1}, key=lambda at: abs(at - focus)))
        shown = sorted(even | {focus})
    lru = next(row for row in document.rows if row.name == _LRU)
    rows = []
    for row in document.rows:
        if row.name == _LRU:
            cells = [rate_or_dash(int(row.hit_blocks[at]), document.queried_blocks) for at in shown]
        else:
            against = _points(row, lru, document)
            cells = [signed_points(against[at]) for at in shown]
        rows.append((row.title, *cells))
    return TextTable(
        title="By capacity",
        remark="blocks; LRU's block hit rate, and points to it",
        columns=("", *(short_count(int(capacities[at])) for at in shown)),
        rows=tuple(rows),
        marked=frozenset({0}),
    )


def _points(row: PolicyRow, lru: PolicyRow, document: PoliciesDocument) -> NDArray[np.float64]:
    queried = max(1, document.queried_blocks)
    return np.asarray((row.hit_blocks - lru.hit_blocks) / queried)


def about_table(document: PoliciesDocument) -> TextTable:
    """Return what each policy does, in a sentence, and what computing it took."""
    rows = tuple(
        (row.name, row.summary, seconds(row.seconds))
        for row in document.rows
        if row.kind == "policy"
    )
    return TextTable(
        title="What each does",
        remark="which block goes first",
        columns=("", "evicts", "our time"),
        rows=rows,
        words=frozenset({0, 1}),
    )


def policies_engine_table(document: PoliciesDocument) -> TextTable:
    """Return the replays of each policy in the engine."""
    rows = []
    base = {
        point.num_blocks: point.token_hit_rate
        for point in document.engine.get(_LRU, ())
        if point.queried_tokens
    }
    titles = {row.name: row.title for row in document.rows}
    for name, points in document.engine.items():
        for point in points:
            alone = base.get(point.num_blocks)
            known = name != _LRU and alone is not None and point.queried_tokens
            rows.append(
                (
                    titles.get(name, name),
                    count(point.num_blocks),
                    rate_or_dash(point.hit_tokens, point.queried_tokens),
                    signed_points(point.token_hit_rate - (alone or 0.0)) if known else _DASH,
                    count(point.preemptions),
                    count(point.never_served),
                )
            )
    return TextTable(
        title="In the engine itself",
        remark="replayed: running requests pin blocks, answers take room",
        columns=("", "pool blocks", "token hit rate", "to LRU", "preemptions", "never served"),
        rows=tuple(rows),
        note="to LRU: percentage points of token hit rate",
    )
