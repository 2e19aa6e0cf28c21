"""The capacity for a wanted hit rate, with an interval and a check on requests not used for it.

Owns: `advise`. Leaves to others: the curves (`kvatlas.measure.curves`).

The check: the first half of the trace answers as if nothing else were known, and its answer is held
against what the second half needs. Both are judged with a warm cache: the first quarter of the
first half only fills it. When they differ by more than 2%, the trace is too short or its traffic
changes too much: the advice says "not converged", and its interval, from resampled stretches of the
trace, is the honest answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves import CapacityStudy, LruCurve, lru_curve, spread
from kvatlas.report.curve_document import Advice

__all__ = ["HELD_OUT_TOLERANCE", "advise"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HELD_OUT_TOLERANCE = 0.02
"""How far the first half's answer may lie from the second half's need to count as converged."""

_WARM_UP = 4  # one part in so many of the first half only fills the cache
_STRETCHES = 24
_RESAMPLES = 400
_GRID = 257
_OUTSIDE = 0.025  # on either side of the interval


def advise(
    study: CapacityStudy,
    targets: Sequence[float],
    bytes_per_block: int | None = None,
    *,
    seed: int = 0,
) -> tuple[Advice, ...]:
    """Return the capacity for each of `targets` (token hit rates, 0 to 1) under LRU.

    Exact for the trace itself: no smaller cache would have reached it. O(S log S) for S pieces of
    reuse, and 400 resamples of 24 stretches of requests for the intervals.
    """
    rows = study.runs.num_requests
    half = rows // 2
    first = lru_curve(study.runs, half // _WARM_UP, half)
    second = lru_curve(study.runs, half)
    lows, highs = _intervals(study, targets, seed)
    return tuple(
        _advice(study.lru, first, second, target, low, high, bytes_per_block)
        for target, low, high in zip(targets, lows, highs, strict=True)
    )


def _advice(
    whole: LruCurve,
    first: LruCurve,
    second: LruCurve,
    target: float,
    low: int | None,
    high: int | None,
    bytes_per_block: int | None,
) -> Advice:
    capacity = _need(whole, target)
    mine, theirs = _need(first, target), _need(second, target)
    error, reason = None, ""
    if mine is None:
        reason = f"the first half reaches {_most(first):.2%} at most"
    elif theirs is None:
        reason = f"the second half reaches {_most(second):.2%} at most"
    else:
        error = mine / theirs - 1 if theirs else float(mine > 0)
        if abs(error) > HELD_OUT_TOLERANCE:
            reason = (
                f"the first half says {mine:,} blocks, the second needs {theirs:,} ({error:+.1%})"
            )
    if not reason and high is None:
        reason = "too few stretches of the trace reach it for an interval with an end"
    memory_bytes = None
    if capacity is not None and bytes_per_block is not None:
        memory_bytes = capacity * bytes_per_block
    return Advice(
        target=target,
        capacity_blocks=capacity,
        memory_bytes=memory_bytes,
        low_blocks=low,
        high_blocks=high,
        first_half_blocks=mine,
        second_half_blocks=theirs,
        held_out_error=error,
        converged=not reason,
        reason=reason,
    )


def _need(curve: LruCurve, target: float) -> int | None:
    return curve.capacity_for_tokens(target * curve.queried_tokens)


def _most(curve: LruCurve) -> float:
    return curve.most_tokens / curve.queried_tokens if curve.queried_tokens else 0.0


def _intervals(
    study: CapacityStudy, targets: Sequence[float], seed: int
) -> tuple[list[int | None], list[int | None]]:
    """Return the bounds of each target's interval; None where it is not reached that often."""
    rows = study.runs.num_requests
    stretches = min(_STRETCHES, rows)
    if stretches < 2:
        return [None] * len(targets), [None] * len(targets)
    edges = np.linspace(0, rows, stretches + 1).astype(int)
    grid = np.append(np.zeros(1, np.int64), spread(study.lru.blocks, _GRID))
    curves = [lru_curve(study.runs, int(edges[i]), int(edges[i + 1])) for i in range(stretches)]
    hits = np.array([curve.tokens(grid) for curve in curves], np.float64)
    queried = np.array([curve.queried_tokens for curve in curves], np.float64)
    drawn = np.random.default_rng(seed).integers(0, stretches, (_RESAMPLES, stretches))
    weight = np.apply_along_axis(np.bincount, 1, drawn, minlength=stretches).astype(np.float64)
    rates = (weight @ hits) / np.maximum(1.0, weight @ queried)[:, None]
    needs = np.array([[_crossing(grid, rate, target) for rate in rates] for target in targets])
    bounds = [_quantile(needs, share) for share in (_OUTSIDE, 1 - _OUTSIDE)]
    return bounds[0], bounds[1]


def _crossing(grid: I64, rates: F64, target: float) -> float:
    """Return where rising `rates` over `grid` reach `target`; infinite where they do not."""
    at = int(np.searchsorted(rates, target))
    if at == rates.size:
        return float("inf")
    if at == 0:
        return float(grid[0])
    low, high = rates[at - 1], rates[at]
    return float(grid[at - 1] + (target - low) / (high - low) * (grid[at] - grid[at - 1]))


def _quantile(needs: F64, share: float) -> list[int | None]:
    """Return the quantile of each row (infinite values sort last); None where it is infinite."""
    at = min(needs.shape[1] - 1, int(share * needs.shape[1]))
    ranked = np.sort(needs, axis=1)[:, at]
    return [int(np.ceil(value)) if np.isfinite(value) else None for value in ranked.tolist()]
