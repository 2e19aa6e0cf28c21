"""What the comparison of placement policies lists, as texts.

Owns: columns, rows, digits and their words. Leaves to others: looks (`text_table`), every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from kvatlas.report.numbers import blocks, count, mean, percent
from kvatlas.report.placement_document import QUEUE, PlacementDocument, PlacementRow
from kvatlas.report.replay_facts import Fact
from kvatlas.report.text_table import TextTable

__all__ = [
    "OPEN_LOOP",
    "SCHEDULER",
    "about_placements",
    "copies_table",
    "free_table",
    "runs_table",
    "served_facts",
]

OPEN_LOOP = "one request after another"
SCHEDULER = "in the full scheduler"
_DASH = "–"
_UFSI_ORDER = 6


def runs_table(rows: Sequence[PlacementRow], where: str) -> TextTable:
    """Return runs, hits and time, in the order in which the policies are known."""
    return TextTable(
        title="Runs and hits",
        remark=where,
        columns=("", "runs/request", "fewer", "hit rate", "to queue", "ns/block", "preempted"),
        rows=tuple(
            (
                row.title,
                mean(row.runs_per_request),
                _times(row.times_fewer(rows[0])) if row is not rows[0] else _DASH,
                _or_dash(row.token_hit_rate, percent),
                _change(row, rows[0]),
                _or_dash(row.ns_per_block, lambda ns: f"{ns:,.0f}"),
                count(row.preemptions),
            )
            for row in rows
        ),
        note="runs/request: of the block table when a request ends, mean; to queue: points of "
        "token hit rate; ns/block: the pool alone on the same calls (allocate, cache, touch, free)",
        marked=_queue(rows),
    )


def copies_table(rows: Sequence[PlacementRow], where: str, cut: int | None) -> TextTable:
    """Return how a request's table lies, and the descriptors to copy it; `cut`: blocks of one."""
    columns: tuple[str, ...] = ("", "runs p50", "runs p99", "blocks/run")
    columns += ("descriptors", "by id") if cut is None else (f"cut at {cut:,}", "by id, cut")
    return TextTable(
        title="Copying a request",
        remark=where,
        columns=columns,
        rows=tuple(
            (
                row.title,
                count(row.measured.tables.runs_quantile(0.5)),
                count(row.measured.tables.runs_quantile(0.99)),
                mean(row.measured.tables.mean("blocks") / row.runs_per_request),
                mean(row.measured.tables.mean("copies")),
                mean(row.measured.tables.mean("any_order_copies")),
            )
            for row in rows
            if row.measured.tables.requests
        ),
        note="descriptors: to copy a request's blocks into one buffer, in the table's order; by "
        "id: in the order of ids instead",
        marked=_queue(rows),
    )


def free_table(rows: Sequence[PlacementRow], where: str) -> TextTable:
    """Return the free blocks, evictable ones included, at looks along the way."""
    page = rows[0].measured.free.blocks_per_page if rows else 0
    return TextTable(
        title="Free blocks",
        remark=f"evictable ones included; {where}",
        columns=("", "runs", "p50", "p99", "largest", "EFI", f"UFSI {1 << _UFSI_ORDER}",
                 "free pages", "of"),
        rows=tuple(
            (
                row.title,
                _or_dash(row.measured.free.runs, lambda runs: count(round(runs))),
                count(row.measured.free.quantile(0.5)),
                count(row.measured.free.quantile(0.99)),
                _or_dash(row.measured.free.largest, lambda length: count(round(length))),
                _or_dash(row.measured.free.efi, lambda index: f"{index:.2f}"),
                _or_dash(float(row.measured.free.ufsi[_UFSI_ORDER]), lambda index: f"{index:.2f}"),
                _or_dash(row.measured.free.free_pages, lambda pages: count(round(pages))),
                _or_dash(row.measured.free.packed_pages, lambda pages: count(round(pages))),
            )
            for row in rows
            if row.measured.free.looks
        ),
        note=f"mean of {rows[0].measured.free.looks if rows else 0} looks; p50, p99: lengths of "
        f"free runs; EFI: 1 - largest run / free; UFSI {1 << _UFSI_ORDER}: share of the free "
        f"blocks that no aligned {1 << _UFSI_ORDER} blocks can use; free pages: of {page:,} "
        "blocks, none of them used, of as many as the free blocks would fill",
        marked=_queue(rows),
    )  # fmt: skip


def served_facts(document: PlacementDocument) -> Iterator[Fact]:
    """Yield the pool, and who could not be served in it."""
    yield Fact("Pool", f"{blocks(document.num_blocks)}: {document.pool_note}")
    for rows, where in ((document.open_loop, OPEN_LOOP), (document.scheduler, SCHEDULER)):
        if rows and rows[0].never_served:
            yield Fact(
                "Never served",
                f"{count(rows[0].never_served)} requests can never be served {where}: they do not "
                "fit into the pool or the model length",
                "alarm",
            )


def about_placements(document: PlacementDocument) -> TextTable:
    """Return what each policy does, in a sentence."""
    return TextTable(
        title="What each does",
        remark="which free blocks a request gets",
        columns=("", "hands out", "source"),
        rows=tuple((row.name, row.summary, row.source) for row in document.open_loop),
        words=frozenset({0, 1, 2}),
    )


def _times(times: float) -> str:
    return _DASH if math.isnan(times) else f"{times:.1f}×"


def _change(row: PlacementRow, queue: PlacementRow) -> str:
    """Return what a policy does to the hits."""
    if row is queue:
        return _DASH
    if row.same_hits:
        return "same hits"
    return _or_dash(row.rate_change(queue), lambda change: f"{100 * change:+.3f}")


def _or_dash(value: float, text: Callable[[float], str]) -> str:
    return _DASH if math.isnan(value) else text(value)


def _queue(rows: Sequence[PlacementRow]) -> frozenset[int]:
    return frozenset(number for number, row in enumerate(rows) if row.name == QUEUE)
