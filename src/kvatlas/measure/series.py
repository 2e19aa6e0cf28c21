"""The course of a run: running sums sampled between slices, thinned to a bounded number of points.

Owns: how often to sample, and the means per interval. Sums only ever grow, so the mean over an
interval is the difference of two samples, exact whatever the spacing, and dropping every other
sample (when there are too many) merges intervals without error. Leaves to others: charts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recorder", "Series"]

F64 = NDArray[np.float64]

_SUMS = (
    "clock_ms",
    "used_block_ms",
    "running_ms",
    "waiting_ms",
    "hits",
    "queries",
    "preemptions",
    "evictions",
)


@dataclass(frozen=True, slots=True)
class Series:
    """K intervals of the simulated clock: (K,) each; NaN where an interval saw nothing.

    Attributes:
        start_s, end_s: the intervals' bounds, one after the other.
        usage: mean share of the usable blocks in use.
        running, waiting: mean number of requests.
        hit_rate: token hit rate of the first admissions in the interval.
        hit_rate_so_far: the same from the beginning.
        preemptions: how many in the interval.
        evicted_blocks_per_s: cached blocks lost per simulated second.
    """

    start_s: F64
    end_s: F64
    usage: F64
    running: F64
    waiting: F64
    hit_rate: F64
    hit_rate_so_far: F64
    preemptions: F64
    evicted_blocks_per_s: F64


class Recorder:
    """Collects samples of a run's sums, at most `most_points` of them.

    Ask `steps_per_sample` how many steps the next slice should have: it doubles whenever the
    samples fill up, so that a run of any length ends with between half and all of `most_points`.
    """

    def __init__(self, most_points: int = 400) -> None:
        self.most_points = most_points
        self.steps_per_sample = 1
        self._samples: list[tuple[float, ...]] = [(0.0,) * len(_SUMS)]

    def add(self, sums: Mapping[str, float]) -> None:
        """Take a sample; O(1), amortised."""
        self._samples.append(tuple(float(sums[name]) for name in _SUMS))
        if len(self._samples) > self.most_points:
            del self._samples[1::2]
            self.steps_per_sample *= 2

    def series(self, usable_blocks: int, last: Mapping[str, float]) -> Series:
        """Return the intervals between the samples, closed by the `last` sums of the run."""
        end = tuple(float(last[name]) for name in _SUMS)
        samples = self._samples if self._samples[-1] == end else [*self._samples, end]
        columns = dict(zip(_SUMS, np.array(samples, np.float64).T, strict=True))
        # Steps that take no time make no interval.
        kept = np.flatnonzero(np.diff(columns["clock_ms"], prepend=-1.0) > 0)
        columns = {name: column[kept] for name, column in columns.items()}
        grown = {name: np.diff(column) for name, column in columns.items()}
        span_ms = grown["clock_ms"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return Series(
                start_s=columns["clock_ms"][:-1] / 1e3,
                end_s=columns["clock_ms"][1:] / 1e3,
                usage=grown["used_block_ms"] / (span_ms * usable_blocks),
                running=grown["running_ms"] / span_ms,
                waiting=grown["waiting_ms"] / span_ms,
                hit_rate=_or_nan(grown["hits"], grown["queries"]),
                hit_rate_so_far=_or_nan(columns["hits"][1:], columns["queries"][1:]),
                preemptions=grown["preemptions"],
                evicted_blocks_per_s=grown["evictions"] / (span_ms / 1e3),
            )


def _or_nan(part: F64, whole: F64) -> F64:
    return np.where(whole > 0, part / whole, np.nan)
