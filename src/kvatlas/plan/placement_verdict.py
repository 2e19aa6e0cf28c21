"""What to make of placement policies side by side, in sentences.

Owns: what counts as worth it, the words. Leaves to others: the figures (`placement`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.report.numbers import mean
from kvatlas.report.placement_document import QUEUE, PlacementRow

__all__ = ["WITHIN_POINTS", "WORTH_TIMES", "placement_verdict"]

WITHIN_POINTS = 0.2
"""Points of token hit rate that a policy may lose and still be named."""
WORTH_TIMES = 1.5
"""A policy with less than so many times fewer runs than the queue is not worth a change."""

_HONEST = (
    "All blocks are equal, so no allocation ever waited for a run: fewer runs make a request's "
    "transfer or offload take fewer descriptors and leave whole pages free; they save nothing else."
)


def placement_verdict(
    open_loop: Sequence[PlacementRow], scheduler: Sequence[PlacementRow]
) -> tuple[str, ...]:
    """Return what to make of it; the first sentence says what to do. Rows begin with the queue."""
    if not open_loop or not open_loop[0].measured.tables.requests:
        return ("No request ran to its end, so there is nothing to compare.",)
    said = list(_of_one(open_loop, "One request after another: ")) if len(open_loop) > 1 else []
    if len(scheduler) > 1 and scheduler[0].measured.tables.requests:
        said += _of_one(scheduler, "In the full scheduler: ")
    queue = open_loop[0]
    if len(open_loop) == 1:
        blocks = mean(queue.measured.tables.mean("blocks"))
        said.append(
            f"vLLM's queue leaves a request's {blocks} blocks in "
            f"{mean(queue.runs_per_request)} runs; no other policy was tried."
        )
    any_order = queue.measured.tables.mean("any_order_runs")
    if any_order * WORTH_TIMES <= queue.runs_per_request:
        said.append(
            "Much of the queue's disorder is order alone: a copy that takes a request's blocks by "
            f"ascending id needs {mean(any_order)} descriptors under the queue already, where "
            f"one in the table's order needs {mean(queue.runs_per_request)}."
        )
    return (*said, _HONEST)


def _of_one(rows: Sequence[PlacementRow], where: str) -> list[str]:
    """Return what one way to drive the policies says: the best with equal hits, the best of all."""
    queue, others = rows[0], [row for row in rows if row.name != QUEUE]
    same = min(
        (row for row in others if row.same_hits), key=lambda row: row.runs_per_request, default=None
    )
    near = [row for row in others if _points(queue, row) >= -WITHIN_POINTS]
    best = min(near, key=lambda row: row.runs_per_request, default=None)
    if best is None or best.times_fewer(queue) < WORTH_TIMES:
        return [
            f"{where}stay on the queue, whose tables have {mean(queue.runs_per_request)} "
            f"runs; no policy here has {WORTH_TIMES:g} times fewer at {WITHIN_POINTS:g} points of "
            "token hit rate or less."
        ]
    said = []
    if same is not None and same.times_fewer(queue) >= WORTH_TIMES:
        said.append(
            f"{where}{_praise(queue, same)}, with exactly the same hits{_cost(queue, same)}."
        )
    if best is not same:
        said.append(
            f"{where}{_praise(queue, best)}, at {_points(queue, best):+.3f} points of token hit "
            f"rate{_cost(queue, best)}."
        )
    return said


def _praise(queue: PlacementRow, row: PlacementRow) -> str:
    return (
        f"{row.title} has {row.times_fewer(queue):.1f} times fewer runs per request than vLLM's "
        f"queue ({mean(queue.runs_per_request)} to {mean(row.runs_per_request)})"
    )


def _cost(queue: PlacementRow, row: PlacementRow) -> str:
    return f", at {row.ns_per_block:,.0f} ns per block instead of {queue.ns_per_block:,.0f}"


def _points(queue: PlacementRow, row: PlacementRow) -> float:
    """Return points of token hit rate above the queue; 0 where nothing was looked up."""
    return 100 * row.rate_change(queue) if row.queried_tokens else 0.0
