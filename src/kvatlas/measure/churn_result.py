"""What `churn` finds: working sets, rates per interval, bursts and trends.

Owns: the shapes and what each field means. Leaves to others: how they come about (`churn`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.trends import Bursts, Trend

__all__ = ["ChurnResult", "ChurnSeries", "WorkingSet"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """W(T) over the windows that are over.

    Attributes:
        window_s: T.
        windows: how many are over; the means are None without any.
        mean_blocks, most_blocks: distinct blocks touched; the maximum includes the last window.
        mean_contents, most_contents: distinct contents.
    """

    window_s: float
    windows: int
    mean_blocks: float | None
    most_blocks: int
    mean_contents: float | None
    most_contents: int


@dataclass(frozen=True, slots=True)
class ChurnSeries:
    """K equal intervals from the first event on, the last one possibly cut short: (K,) each.

    Attributes:
        start_s, end_s: bounds on the run's clock.
        allocated, evicted, freed: blocks per second; freed: lost their last owner.
        arrivals, failures, preemptions: how many; a failure counts once, when it begins.
        usage: mean share of the usable blocks that is owned.
        waste: empty slots over owned slots; hit_rate: of first admissions. NaN without any.
    """

    start_s: F64
    end_s: F64
    allocated: F64
    evicted: F64
    freed: F64
    arrivals: F64
    failures: F64
    preemptions: F64
    usage: F64
    waste: F64
    hit_rate: F64


@dataclass(frozen=True, slots=True)
class ChurnResult:
    """What was found.

    Attributes:
        span_s: from the first event to the end of the last step.
        interval_s: the width of the series' intervals.
        working_sets: one for each window.
        pinned_mean_blocks: owned blocks, time-weighted (None without time); `pinned_most_blocks`.
        allocated_blocks, evicted_blocks, freed_blocks: in all.
        arrivals, failures, preemptions: how evenly they come.
        trends: of `usage`, `waste` and `hit_rate`.
    """

    span_s: float
    interval_s: float
    working_sets: tuple[WorkingSet, ...]
    pinned_mean_blocks: float | None
    pinned_most_blocks: int
    allocated_blocks: int
    evicted_blocks: int
    freed_blocks: int
    arrivals: Bursts
    failures: Bursts
    preemptions: Bursts
    trends: dict[str, Trend]
    series: ChurnSeries
