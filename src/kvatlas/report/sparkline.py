"""A series as one line of characters.

Owns: which intervals share a character, and the ramp. Leaves to others: what is shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["resample", "sparkline"]

F64 = NDArray[np.float64]

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*%#"


def resample(start_s: F64, end_s: F64, values: F64, columns: int, *, total: bool = False) -> F64:
    """Return (columns,) values over equal stretches of time; NaN where nothing is known.

    Means are weighted by the time that an interval shares with a stretch; with `total` the values
    are counts, which are spread over their interval evenly. O(K + columns).
    """
    first, last = float(start_s[0]), float(end_s[-1])
    edges = np.linspace(first, last, columns + 1)
    known = np.isfinite(values)
    span = np.where(known, end_s - start_s, 0.0)
    weight = span if not total else np.where(known, 1.0, 0.0)
    bounds = np.append(start_s, last)
    summed, weighed = (
        np.diff(np.interp(edges, bounds, np.append(0.0, np.cumsum(part))))
        for part in (np.where(known, values, 0.0) * weight, weight)
    )
    seen = weighed > 1e-12 * max(1e-300, float(weight.sum()))
    if total:
        return np.where(seen, summed, np.nan)
    means: F64 = np.divide(summed, weighed, out=np.full(columns, np.nan), where=seen)
    return means


def sparkline(values: F64, top: float, *, ascii_only: bool = False) -> str:
    """Return a character per value, its height in eighths of `top`; a space where it is NaN.

    A value above 0 is never drawn as one of exactly 0, which has the lowest mark alone.
    """
    ramp = _ASCII if ascii_only else _BLOCKS
    shown = []
    for value in values.tolist():
        if value != value:
            shown.append(" ")
        elif value <= 0 or top <= 0:
            shown.append(" " if top <= 0 and value > 0 else ramp[0])
        else:
            shown.append(ramp[min(7, max(1, int(8 * value / top)))])
    return "".join(shown)
