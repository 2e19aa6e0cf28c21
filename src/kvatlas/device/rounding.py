"""Requests rounded up to what they take, many at once.

Owns: the rule for arrays. Leaves to others: the rule in the compiled loop (`_malloc_kernel`; a test
holds the two together).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.settings import AllocatorSettings

__all__ = ["round_sizes"]

I64 = NDArray[np.int64]
_SMALLEST = 512


def round_sizes(asked: I64, settings: AllocatorSettings) -> I64:
    """Return the bytes that requests below 2**53 bytes take under `settings`; O(n)."""
    plain = np.maximum(-(-asked // _SMALLEST), 1) * _SMALLEST
    table = np.array(settings.roundup_power2_divisions, np.int64)
    if not table.any():
        return plain
    exponent = np.frexp(np.maximum(asked, 1).astype(np.float64))[1].astype(np.int64) - 1
    divisions = table[np.clip(exponent - 20, 0, table.size - 1)]
    stepped = (divisions > 1) & (asked > _SMALLEST * divisions)
    bits = np.frexp(np.maximum(divisions, 1).astype(np.float64))[1].astype(np.int64) - 1
    step = np.where(stepped, np.left_shift(1, exponent) >> bits, 1)
    return np.where(stepped, -(-asked // step) * step, plain)
