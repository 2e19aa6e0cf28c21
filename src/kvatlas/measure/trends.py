"""Whether something builds up: a robust line through a series, and a plain verdict.

Owns: the Theil-Sen slope, Kendall's test, the verdict's thresholds, burstiness of counts. Leaves to
others: which series there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bursts", "Trend", "bursts_of", "trend_of"]

F64 = NDArray[np.float64]

WARM_UP_SHARE = 0.1
"""The beginning of a run that is left out: a pool that fills up is no trend."""
SHORTEST_S = 600.0
FEWEST_POINTS = 12
MOST_POINTS = 64
"""A longer series is averaged down to so many: neighbours resemble each other, and a test that took
them for independent would find a trend in anything."""
CERTAIN_Z = 4.0
LEAST_CHANGE = 0.05
LEAST_SECOND_HALF = 0.25
FEWEST_EVENTS = 10
CLUSTERED_FANO = 3.0


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through a series, from the end of the warm-up on.

    Attributes:
        verdict: `builds up`, `falls`, `steady`, or `too short to say`.
        slope_per_h: change per hour, the median of the slopes between all pairs of points (Theil
            1950, Sen 1968); None when too short.
        change: the line's change over the span; `second_half_per_h`: the slope of its second half.
        z: Kendall's statistic in standard deviations.
        points, span_s: what it rests on.
    """

    verdict: str
    slope_per_h: float | None
    change: float | None
    second_half_per_h: float | None
    z: float | None
    points: int
    span_s: float


@dataclass(frozen=True, slots=True)
class Bursts:
    """How evenly events fall into equal intervals.

    Attributes:
        verdict: `clustered`, `spread`, or `too few to say`.
        events: in all.
        peak_to_mean: the fullest interval over the mean.
        fano: variance over mean; 1 for a Poisson process, 0 for perfectly even ones.
        busiest_share: the share of the events in the fullest tenth of the intervals.
    """

    verdict: str
    events: int
    peak_to_mean: float | None
    fano: float | None
    busiest_share: float | None


def trend_of(times_s: F64, values: F64, least_change: float = LEAST_CHANGE) -> Trend:
    """Return the trend of a series; O(K + 64**2).

    It builds up (falls) when, after a warm-up of a tenth of the span, Kendall's z is beyond 4, the
    line changes by at least `least_change` over the span, and the slope of the second half is still
    a quarter of it at least: what levels off is steady. Too short: under ten minutes or 12 points.

    Args:
        times_s: (K,) rising.
        values: (K,) NaN where nothing was seen.
        least_change: in the unit of the values; 0.05 suits ratios.
    """
    known = ~np.isnan(values)
    times_s, values = times_s[known], values[known]
    if times_s.size:
        warm_s = times_s[0] + WARM_UP_SHARE * (times_s[-1] - times_s[0])
        times_s, values = times_s[times_s >= warm_s], values[times_s >= warm_s]
    span_s = float(times_s[-1] - times_s[0]) if times_s.size else 0.0
    if times_s.size < FEWEST_POINTS or span_s < SHORTEST_S:
        return Trend("too short to say", None, None, None, None, int(times_s.size), span_s)
    times_s, values = _averaged(times_s, values)
    slope, second = _slope(times_s, values), _slope(*_second_half(times_s, values))
    change, z = slope * span_s, _kendall_z(values)
    verdict = "steady"
    lasting = second * slope > 0 and abs(second) >= LEAST_SECOND_HALF * abs(slope)
    if abs(z) >= CERTAIN_Z and abs(change) >= least_change and lasting:
        verdict = "builds up" if slope > 0 else "falls"
    return Trend(verdict, slope * 3600, change, second * 3600, z, int(times_s.size), span_s)


def bursts_of(counts: F64) -> Bursts:
    """Return how evenly events fall: (K,) counts of equal intervals, O(K log K)."""
    events = int(counts.sum())
    if events == 0 or counts.size < 2:
        return Bursts("too few to say", events, None, None, None)
    mean = float(counts.mean())
    fano = float(counts.var() / mean)
    tenth = math.ceil(counts.size / 10)
    busiest = float(np.sort(counts)[-tenth:].sum() / events)
    verdict = "clustered" if fano >= CLUSTERED_FANO else "spread"
    if events < FEWEST_EVENTS or counts.size < FEWEST_POINTS:
        verdict = "too few to say"
    return Bursts(verdict, events, float(counts.max()) / mean, fano, busiest)


def _averaged(times_s: F64, values: F64) -> tuple[F64, F64]:
    """Return the means of at most `MOST_POINTS` neighbouring groups of nearly equal size."""
    if times_s.size <= MOST_POINTS:
        return times_s, values
    starts = (np.arange(MOST_POINTS) * times_s.size) // MOST_POINTS
    sizes = np.diff(np.append(starts, times_s.size))
    return np.add.reduceat(times_s, starts) / sizes, np.add.reduceat(values, starts) / sizes


def _second_half(times_s: F64, values: F64) -> tuple[F64, F64]:
    half = times_s.size // 2
    return times_s[half:], values[half:]


def _slope(times_s: F64, values: F64) -> float:
    first, second = np.triu_indices(times_s.size, 1)
    return float(np.median((values[second] - values[first]) / (times_s[second] - times_s[first])))


def _kendall_z(values: F64) -> float:
    """Return S over its standard deviation, corrected for ties (Kendall 1975)."""
    count = values.size
    first, second = np.triu_indices(count, 1)
    score = float(np.sign(values[second] - values[first]).sum())
    ties = np.unique(values, return_counts=True)[1].astype(np.float64)
    variance = (
        count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())
    ) / 18
    if variance <= 0 or score == 0:
        return 0.0
    return (score - math.copysign(1.0, score)) / math.sqrt(variance)
