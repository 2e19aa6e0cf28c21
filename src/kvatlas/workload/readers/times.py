"""ISO 8601 times to whole nanoseconds, many at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["iso_ticks"]

_SHORTEST = len("2023-11-16 18:15:46")
_NS_PER_MINUTE = 60 * 10**9


def iso_ticks(cells: Sequence[bytes]) -> NDArray[np.int64]:
    """Return `YYYY-MM-DD[ T]HH:MM:SS[.fraction][Z|+HH:MM]` as nanoseconds since 1970, (N,).

    A time without a zone is taken as UTC; digits beyond nanoseconds are dropped. About 0.5 us each.
    Raises: ValueError if any cell is something else.
    """
    stripped = [cell.strip() for cell in cells]
    if min(map(len, stripped), default=_SHORTEST) < _SHORTEST:
        raise ValueError("too short for a time")
    local = stripped
    minutes: NDArray[np.int64] | None = None
    joined = b"".join(stripped)
    if b"Z" in joined or b"+" in joined or joined.count(b"-") != 2 * len(stripped):
        split = [_zone(cell) for cell in stripped]
        local = [cell for cell, _ in split]
        minutes = np.array([offset for _, offset in split], dtype=np.int64)
    # NumPy wraps around quietly outside the years that 64 bits of nanoseconds reach.
    if local and (min(local) < b"1970" or max(local) >= b"2262"):
        raise ValueError("not a time between 1970 and 2261")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # NumPy only warns of a zone it leaves out
        try:
            times = np.array(local, dtype=np.bytes_).astype("datetime64[ns]")
        except UserWarning:
            raise ValueError("not a time") from None
    if np.isnat(times).any():
        raise ValueError("not a time")
    ticks = times.astype(np.int64)
    return ticks if minutes is None else ticks - minutes * _NS_PER_MINUTE


def _zone(cell: bytes) -> tuple[bytes, int]:
    """Split a time into its local part and its offset from UTC in minutes."""
    if cell[-1:] == b"Z":
        return cell[:-1], 0
    if cell[-6:-5] in (b"+", b"-"):
        hours, minutes = int(cell[-5:-3]), int(cell[-2:])
        if cell[-3:-2] != b":" or hours > 14 or minutes > 59:
            raise ValueError("not a zone")
        return cell[:-6], (hours * 60 + minutes) * (-1 if cell[-6:-5] == b"-" else 1)
    return cell, 0
