"""For whom two runs of one workload differ: each request held against itself.

Owns: the quantities, better and worse, winners and losers, classes of prompts. Leaves to others:
whether runs can be compared (`diff`), the requests' outcomes (`outcomes`), views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.outcomes import Outcomes

__all__ = [
    "QUANTITIES",
    "Quantity",
    "QuantityChange",
    "SizeClass",
    "changed_requests",
    "size_classes",
]

F64 = NDArray[np.float64]

_RELATIVE_NOISE = 1e-9
_SIZE_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something known of each request: its name, with the unit, and which way is better."""

    name: str
    better: int


QUANTITIES = (
    Quantity("queue_time_s", -1),
    Quantity("hit_tokens", 1),
    Quantity("preemptions", -1),
    Quantity("lost_tokens", -1),
    Quantity("end_s", -1),
)


@dataclass(frozen=True, slots=True)
class QuantityChange:
    """How a quantity moved over the requests that both runs know it of.

    Attributes:
        quantity: which.
        compared, better, worse: requests.
        before, after: the means.
        p50, p99: of the change (after less before) over the compared requests.
        winners, losers: (request, before, after) that gained and lost the most, at most `most`.
        only_before, only_after: requests that only one run knows it of.
    """

    quantity: Quantity
    compared: int
    better: int
    worse: int
    before: float | None
    after: float | None
    p50: float | None
    p99: float | None
    winners: tuple[tuple[int, float, float], ...]
    losers: tuple[tuple[int, float, float], ...]
    only_before: int
    only_after: int


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Requests whose prompts have `[least, most]` tokens, and the means of what changed for them.

    `means` is by the quantity's name: (before, after), None where no request of the class is known
    in both runs.
    """

    least: int
    most: int
    requests: int
    means: Mapping[str, tuple[float, float] | None]


def changed_requests(
    before: Outcomes, after: Outcomes, *, timed: bool, most: int = 5
) -> list[QuantityChange]:
    """Return how each quantity moved over the requests; O(N log N).

    Args:
        before, after: the same workload's outcomes.
        timed: requests came at their own times in both runs. Otherwise a request joins the queue
            when there is room in the backlog, and its time in it says nothing about the request.
        most: winners and losers named.
    """
    return [
        _quantity_change(quantity, _values(before, quantity), _values(after, quantity), most)
        for quantity in QUANTITIES
        if timed or quantity.name != "queue_time_s"
    ]


def size_classes(before: Outcomes, after: Outcomes, *, timed: bool) -> list[SizeClass]:
    """Return the same for quarters of the requests by the length of their prompts; O(N log N)."""
    known = (before.prompt_tokens >= 0) & (after.prompt_tokens >= 0)
    tokens = before.prompt_tokens[known]
    if tokens.size == 0:
        return []
    bounds = np.unique(np.quantile(tokens, _SIZE_SHARES, method="lower"))
    classes = np.searchsorted(bounds, tokens, side="left")
    found = []
    for each in np.unique(classes).tolist():
        inside = np.flatnonzero(known)[classes == each]
        means: dict[str, tuple[float, float] | None] = {}
        for quantity in QUANTITIES:
            if timed or quantity.name != "queue_time_s":
                one, other = (_values(run, quantity)[inside] for run in (before, after))
                both = ~np.isnan(one) & ~np.isnan(other)
                pair = (float(one[both].mean()), float(other[both].mean())) if both.any() else None
                means[quantity.name] = pair
        sizes = before.prompt_tokens[inside]
        found.append(SizeClass(int(sizes.min()), int(sizes.max()), inside.size, means))
    return found


def _values(outcomes: Outcomes, quantity: Quantity) -> F64:
    values: dict[str, Any] = {
        "queue_time_s": outcomes.queue_s,
        "hit_tokens": outcomes.hit_tokens,
        "preemptions": outcomes.preemptions,
        "lost_tokens": outcomes.lost_tokens,
        "end_s": outcomes.finished_s,
    }
    floats: F64 = values[quantity.name].astype(np.float64)
    if quantity.name in ("preemptions", "lost_tokens"):
        # A request that never came was not spared either.
        floats[np.isnan(outcomes.admitted_s)] = np.nan
    return floats


def _quantity_change(quantity: Quantity, before: F64, after: F64, most: int) -> QuantityChange:
    seen_before, seen_after = ~np.isnan(before), ~np.isnan(after)
    both = np.flatnonzero(seen_before & seen_after)
    one, other = before[both], after[both]
    change = other - one
    # Clocks add up in another order in another run: what they lose there is no change.
    change[np.abs(change) <= _RELATIVE_NOISE * np.maximum(np.abs(one), np.abs(other))] = 0.0
    gain = change * quantity.better
    order = np.argsort(-gain, kind="stable")

    def named(rows: NDArray[np.intp]) -> tuple[tuple[int, float, float], ...]:
        return tuple((int(both[at]), float(one[at]), float(other[at])) for at in rows)

    return QuantityChange(
        quantity=quantity,
        compared=both.size,
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        before=float(one.mean()) if both.size else None,
        after=float(other.mean()) if both.size else None,
        p50=float(np.percentile(change, 50)) if both.size else None,
        p99=float(np.percentile(change, 99)) if both.size else None,
        winners=named(order[:most][gain[order[:most]] > 0]),
        losers=named(order[::-1][:most][gain[order[::-1][:most]] < 0]),
        only_before=int((seen_before & ~seen_after).sum()),
        only_after=int((seen_after & ~seen_before).sum()),
    )
