"""Hits as a function of capacity, at every capacity, without a sample between.

Owns: `HitCurve`, a piecewise linear function kept by its breakpoints. Leaves to others: where they
come from (`lru`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError

__all__ = ["MOST_BLOCKS", "HitCurve", "checked_capacities"]

I64 = NDArray[np.int64]

MOST_BLOCKS = 1 << 40
"""The largest capacity that can be asked about: sums of such numbers stay exact."""


def checked_capacities(capacity_blocks: I64 | int) -> I64:
    """Return capacities as an array. Raises: InputError for one below 0 or above `MOST_BLOCKS`."""
    capacity = np.atleast_1d(np.asarray(capacity_blocks, np.int64))
    outside = capacity[(capacity < 0) | (capacity > MOST_BLOCKS)]
    if outside.size:
        raise InputError(
            "must be 0 to 2**40 blocks",
            field="capacity_blocks",
            value=int(outside[0]),
            remedy="name a capacity that a cache can have",
        )
    return capacity


@dataclass(frozen=True, slots=True, eq=False)
class HitCurve:
    """A sum of ramps and steps over capacity in blocks; exact integers everywhere.

    Between two neighbouring breakpoints the value rises by the same amount per block.

    Attributes:
        at: (K,) int64 breakpoints, strictly rising, from 0.
        value: (K,) int64 the value at each; slope: (K,) int64 the rise per block after each. The
            last slope is 0: more memory serves no more hits.
    """

    at: I64
    value: I64
    slope: I64

    @classmethod
    def of_ramps(cls, start: I64, length: I64, height: int = 1) -> Self:
        """Return the sum of ramps that rise by `height` per block from `start` for `length` blocks.

        O(S log S) for S ramps.
        """
        at = np.concatenate([np.zeros(1, np.int64), start, start + length])
        rise = np.concatenate(
            [np.zeros(1, np.int64), np.full(start.size, height), np.full(start.size, -height)]
        )
        order = np.argsort(at, kind="stable")
        at, rise = at[order], np.cumsum(rise[order])
        last = np.append(at[1:] != at[:-1], True)
        at, slope = at[last], rise[last]
        value = np.zeros_like(at)
        value[1:] = np.cumsum(slope[:-1] * np.diff(at))
        return cls(at, value, slope)

    def __call__(self, capacity_blocks: NDArray[np.int64] | int) -> I64:
        """Return the value at each capacity. O(log K) each. Raises: InputError below 0."""
        capacity = checked_capacities(capacity_blocks)
        before = np.searchsorted(self.at, capacity, side="right") - 1
        return np.asarray(self.value[before] + self.slope[before] * (capacity - self.at[before]))

    @property
    def most(self) -> int:
        """The value without a limit of capacity."""
        return int(self.value[-1])

    @property
    def enough(self) -> int:
        """The smallest capacity that reaches `most`."""
        return int(self.at[np.searchsorted(self.value, self.most)])

    def capacity_for(self, value: int) -> int | None:
        """Return the smallest capacity with at least `value`, None when there is none. O(log K)."""
        if value > self.most:
            return None
        reached = int(np.searchsorted(self.value, value))
        if reached == 0 or self.value[reached] == value:
            return int(self.at[reached])
        missing = value - int(self.value[reached - 1])
        return int(self.at[reached - 1]) + -(-missing // int(self.slope[reached - 1]))
