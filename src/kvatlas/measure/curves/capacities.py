"""Which capacities to look at, and which of them is the knee.

Owns: a documented thinning of a curve's breakpoints, and the knee's definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves.hit_curve import HitCurve

__all__ = ["knee", "spread"]

I64 = NDArray[np.int64]


def spread(curve: HitCurve, count: int) -> I64:
    """Return at most `count` capacities that show the whole curve, rising, its end included.

    Between the first hit and the last they are spaced geometrically, each moved to the nearest
    breakpoint below it where there is one since the capacity before. O(count log K).
    """
    enough = max(1, curve.enough)
    rising = np.flatnonzero(curve.slope > 0)
    first = int(curve.at[rising[0]]) + 1 if rising.size else 1
    low = max(1, min(first, enough))
    # Starting a little below the first hit, but not far: 1/500 of the end at most.
    low = max(low, enough // 500, 1)
    even = np.unique(np.round(np.geomspace(low, enough, max(2, count))).astype(np.int64))
    below = curve.at[np.searchsorted(curve.at, even, side="right") - 1]
    before = np.concatenate([np.zeros(1, np.int64), even[:-1]])
    return np.unique(np.append(np.where(below > before, below, even), enough))


def knee(curve: HitCurve) -> int:
    """Return the capacity at which the curve stands highest above its chord. O(K).

    The chord is the straight line from nothing at capacity 0 to the ceiling at the smallest
    capacity that reaches it: before the knee a block earns more than the average one, after it
    less (the knee of Satopaa and others, 2011, on linear axes). 0 for a curve without hits.
    """
    if curve.most == 0:
        return 0
    # In integers: value / most - at / enough, times both.
    above = curve.value.astype(object) * curve.enough - curve.at.astype(object) * curve.most
    # A straight curve has no knee before its end.
    return int(curve.at[above.size - 1 - int(np.argmax(above[::-1]))])
