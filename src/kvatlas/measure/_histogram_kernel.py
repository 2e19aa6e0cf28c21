"""Histograms with rising bins: any number of values in bounded memory, their sum kept exactly.

Owns: putting values into them. Leaves to others: reading them (`distribution`).

Bins grow by 2 ** (1 / BINS_PER_OCTAVE) from LEAST to beyond 1e14; bin 0 holds what is smaller, zero
above all. Blocks that a request takes at once have equal times, so equal values one after the other
are only counted, and find their bin together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import inlined, kernel
from kvatlas.records import Records, record_dtype, records

I64 = NDArray[np.int64]

BINS_PER_OCTAVE = 16
_LEAST_LOG2 = -10
LEAST = 2.0**_LEAST_LOG2
NUM_BINS = 1 + BINS_PER_OCTAVE * (48 - _LEAST_LOG2)

TALLY = record_dtype(
    total="f8",
    least="f8",
    most="f8",
    value="f8",  # of the run that is going on, not in the bins yet
    run="i8",  # how often
)


class Histograms(NamedTuple):
    """K histograms: counts per bin, and what is kept exactly."""

    bins: I64  # (K, NUM_BINS)
    tallies: Records  # (K,) TALLY


def make_histograms(count: int) -> Histograms:
    """Return empty histograms; 7 KB each."""
    tallies = records(count, TALLY)
    tallies["least"][:], tallies["most"][:], tallies["value"][:] = math.inf, -math.inf, math.nan
    return Histograms(np.zeros((count, NUM_BINS), np.int64), tallies)


@inlined
def observe(histograms: Histograms, which: int, value: float) -> None:
    """Count a value of 0 or more; O(1)."""
    tally = histograms.tallies[which]
    if value != tally.value:
        _begin_run(histograms, which, value)
    tally.run += 1


@kernel
def _begin_run(histograms: Histograms, which: int, value: float) -> None:
    """Put the run that ends into its bin."""
    tally = histograms.tallies[which]
    if tally.run > 0:
        histograms.bins[which, bin_of(tally.value)] += tally.run
        tally.total += tally.run * tally.value
        tally.run = 0
    tally.value = value
    if value < tally.least:
        tally.least = value
    if value > tally.most:
        tally.most = value


@inlined
def bin_of(value: float) -> int:
    """Return the bin of a value."""
    if value < LEAST:
        return 0
    at = 1 + int((math.log2(value) - _LEAST_LOG2) * BINS_PER_OCTAVE)
    return at if at < NUM_BINS else NUM_BINS - 1
