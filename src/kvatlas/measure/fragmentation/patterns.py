"""Names for the shapes in which free blocks lie: comb, sawtooth, survivors, or none.

Owns: the rules and their thresholds, and the numbers on which a name rests. Leaves to others: what
to do about it.

A *hole* is a free run with used blocks on both sides, a *wall* the used run between two free runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMB", "NONE", "SAWTOOTH", "SURVIVORS", "Pattern", "find_pattern", "smallest_covering"]

I64 = NDArray[np.int64]

COMB, SAWTOOTH, SURVIVORS, NONE = "comb", "sawtooth", "survivors", "none"

EVEN = 0.25
"""Lengths are even when their coefficient of variation is at most this."""
MANY = 4
"""Holes of a comb, at least; a sawtooth has as many in each of two teeth."""
MOSTLY = 0.75
"""The share of steps from hole to hole that must rise (or fall) in a sawtooth."""
SHORT = 0.25
"""Walls are short when their median is at most this share of the free runs' median."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What the free blocks look like.

    Attributes:
        name: `comb` (equal holes between equal walls), `sawtooth` (holes that grow, or shrink, with
            the id and collapse again and again), `survivors` (short walls between long free runs),
            or `none`.
        numbers: what the name rests on: holes, walls, mean_hole_blocks, mean_wall_blocks, cv_holes,
            cv_walls, rising_share, falling_share, collapses.
    """

    name: str
    numbers: Mapping[str, float]


def find_pattern(
    starts: I64, lengths: I64, median: int, first_block: int, num_blocks: int
) -> Pattern:
    """Name the pattern of free runs, (K,) starts and lengths in the order of their ids; O(K).

    `median` is that of the lengths. Blocks are `first_block` (1 behind a null block, else 0) to
    `num_blocks` - 1.
    """
    # Behind the null block, block 1 is the first there is.
    first = int(starts.size > 0 and starts[0] <= first_block)
    last = int(starts.size > first and starts[-1] + lengths[-1] == num_blocks)
    holes = lengths[first : starts.size - last]
    walls = starts[1:] - starts[:-1] - lengths[:-1]
    steps = np.diff(holes)
    rising = _share(int(np.count_nonzero(steps > 0)), steps.size)
    falling = _share(int(np.count_nonzero(steps < 0)), steps.size)
    # A tooth ends where the lengths lose (falling teeth: gain) half of their range or more.
    span = int(holes.max() - holes.min()) if holes.size else 0
    half = max(1, -(-span // 2))
    collapses = np.count_nonzero(steps <= -half if rising >= falling else steps >= half)
    hole, wall = _summary(holes), _summary(walls)
    numbers = {
        "holes": float(holes.size),
        "walls": float(walls.size),
        "mean_hole_blocks": hole.mean,
        "mean_wall_blocks": wall.mean,
        "cv_holes": hole.cv,
        "cv_walls": wall.cv,
        "rising_share": rising,
        "falling_share": falling,
        "collapses": float(collapses),
    }
    name = NONE
    short_walls = walls.size >= 2 and wall.median <= SHORT * median
    even = holes.size >= MANY and hole.cv <= EVEN and wall.cv <= EVEN
    if even and not short_walls:
        name = COMB
    elif holes.size >= 2 * MANY and max(rising, falling) >= MOSTLY and collapses >= 1:
        name = SAWTOOTH
    elif short_walls:
        name = SURVIVORS
    return Pattern(name, numbers)


def smallest_covering(times: I64, share: float) -> int:
    """Return the smallest length that `share` of the values do not exceed, `times` each; 0: none.

    O(longest): sorting a quarter of a million runs would take longer than finding them.
    """
    up_to = np.cumsum(times)
    return int(np.searchsorted(up_to, share * up_to[-1])) if up_to.size and up_to[-1] else 0


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Mean, coefficient of variation and median of lengths; 0 without any."""

    mean: float
    cv: float
    median: int


def _summary(lengths: I64) -> _Lengths:
    if not lengths.size:
        return _Lengths(0.0, 0.0, 0)
    times = np.bincount(lengths)
    known = np.flatnonzero(times)
    mean = float(lengths.sum() / lengths.size)
    variance = float((times[known] * (known - mean) ** 2).sum() / lengths.size)
    return _Lengths(mean, math.sqrt(variance) / mean, smallest_covering(times, 0.5))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
