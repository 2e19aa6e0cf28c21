"""Columns of whole numbers as short texts that a page's script unpacks.

Owns: the form: variable-length numbers of seven bits a byte, the low ones first; deflated; base64.
Negative numbers are folded between the positive ones. Leaves to others: what the numbers mean.
The reading half is `assets/device_data.js`.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["folded", "packed", "varints"]

I64 = NDArray[np.int64]
_LONGEST = 9  # bytes of a number below 2**63


def varints(values: I64) -> bytes:
    """Return numbers from 0 on, seven bits a byte; O(values)."""
    rest = values.astype(np.uint64)
    width = np.ones(rest.size, np.int64)
    for at in range(1, _LONGEST):
        more = rest >= np.uint64(1 << (7 * at))
        if not more.any():
            break
        width += more
    ends = np.cumsum(width)
    starts = ends - width
    out = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
    which = np.arange(rest.size)
    for at in range(int(width.max(initial=1))):
        which = which[width[which] > at]
        part = (rest[which] >> np.uint64(7 * at)).astype(np.uint8) & 127
        out[starts[which] + at] = part | np.where(width[which] > at + 1, 128, 0).astype(np.uint8)
    return out.tobytes()


def folded(values: I64) -> I64:
    """Return 0, 1, 2, 3, ... for 0, -1, 1, -2, ...: small numbers of either sign stay small."""
    return (values << 1) ^ (values >> 63)


def packed(values: I64) -> str:
    """Return numbers from 0 on as a text; O(values)."""
    return base64.b64encode(zlib.compress(varints(values), 6)).decode("ascii")
