"""A distribution as a report shows it: exact count, mean and range, percentiles from narrow bins.

Owns: what a histogram says. Leaves to others: filling it (`_histogram_kernel`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure._histogram_kernel import BINS_PER_OCTAVE, LEAST, NUM_BINS, Histograms
from kvatlas.measure.figures import Figures

__all__ = ["RELATIVE_ERROR", "Distribution", "distribution_of", "put_distribution"]

_EDGES = np.append(0.0, LEAST * 2.0 ** (np.arange(NUM_BINS) / BINS_PER_OCTAVE))
RELATIVE_ERROR = 2.0 ** (0.5 / BINS_PER_OCTAVE) - 1
"""How far a percentile may be from the exact one: 2.2% of its value."""


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Values, as counts per bin.

    Attributes:
        count: how many values; exact, as are `total`, `least` and `most` (None without values).
        edges: (B + 1,) bounds of the bins in use; the first is 0 where values below the least bin
            were seen, such as zeros.
        counts: (B,) values in `[edges[i], edges[i + 1])`.
    """

    count: int
    total: float
    least: float | None
    most: float | None
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float | None:
        """The exact mean, None without values."""
        return self.total / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """Return the smallest value that `share` (0 to 1) of the values do not exceed.

        Within RELATIVE_ERROR of the exact one, and never outside of what was seen. None without
        values. O(bins).
        """
        if self.least is None or self.most is None:
            return None
        # 0.9 * 10 is a little more than 9 in binary.
        rank = max(1, int(np.ceil(share * self.count - 1e-9)))
        at = int(np.searchsorted(np.cumsum(self.counts), rank))
        middle = float(np.sqrt(self.edges[at] * self.edges[at + 1]))
        return min(max(middle, self.least), self.most)

    def merged(self, most: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return edges and counts with equally many bins made one, up to `most` bins; O(bins)."""
        width = max(1, -(-self.counts.size // most))
        first = np.arange(0, self.counts.size, width)
        if first.size == 0:
            return self.edges, self.counts
        edges = np.append(self.edges[first], self.edges[-1])
        return edges, np.add.reduceat(self.counts, first)


def distribution_of(histograms: Histograms, which: int, unit: float = 1.0) -> Distribution:
    """Freeze a histogram, its values multiplied by `unit`; O(bins)."""
    tally, bins = histograms.tallies[which], histograms.bins[which].copy()
    run, value = int(tally.run), float(tally.value)
    if run:
        bins[_bin_of(value)] += run
    count = int(bins.sum())
    used = np.flatnonzero(bins)
    first, stop = (int(used[0]), int(used[-1]) + 1) if count else (0, 0)
    return Distribution(
        count=count,
        total=(float(tally.total) + (run * value if run else 0.0)) * unit,
        least=float(tally.least) * unit if count else None,
        most=float(tally.most) * unit if count else None,
        edges=_EDGES[first : stop + 1] * unit,
        counts=bins[first:stop],
    )


def _bin_of(value: float) -> int:
    return int(np.searchsorted(_EDGES[:-1], value, side="right")) - 1


def put_distribution(
    sheet: Figures, name: str, unit: str, values: Distribution, otherwise: str
) -> None:
    """Put `name`_p50, _p90, _p99 and _mean, each followed by `unit`, or why there are none."""
    figures = {
        f"{name}_{which}{unit}": value
        for which, value in (
            ("p50", values.percentile(0.5)),
            ("p90", values.percentile(0.9)),
            ("p99", values.percentile(0.99)),
            ("mean", values.mean),
        )
    }
    for figure, value in figures.items():
        if value is None:
            sheet.lack(otherwise, figure)
        else:
            sheet.put(figure, value)
