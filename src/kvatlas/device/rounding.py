"""Requests rounded up to what they take, many at once, and the segment that one needs.

Owns: the rules for arrays and single requests. Leaves to others: the rules in the compiled loop
(`_malloc_kernel`; tests hold them together).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import (
    LARGE_STEP,
    LARGEST_SHARED,
    SMALL_SEGMENT,
    SMALL_SIZE,
    SMALLEST,
)
from kvatlas.device.settings import AllocatorSettings

__all__ = ["round_sizes", "segment_bytes"]

I64 = NDArray[np.int64]


def round_sizes(asked: I64, settings: AllocatorSettings) -> I64:
    """Return the bytes that requests below 2**53 bytes take under `settings`; O(n)."""
    plain = np.maximum(-(-asked // SMALLEST), 1) * SMALLEST
    table = np.array(settings.roundup_power2_divisions, np.int64)
    if not table.any():
        return plain
    exponent = np.frexp(np.maximum(asked, 1).astype(np.float64))[1].astype(np.int64) - 1
    divisions = table[np.clip(exponent - 20, 0, table.size - 1)]
    stepped = (divisions > 1) & (asked > SMALLEST * divisions)
    bits = np.frexp(np.maximum(divisions, 1).astype(np.float64))[1].astype(np.int64) - 1
    step = np.where(stepped, np.left_shift(1, exponent) >> bits, 1)
    return np.where(stepped, -(-asked // step) * step, plain)


def segment_bytes(rounded: int, settings: AllocatorSettings) -> int:
    """Return what the driver is asked for when a request, rounded up, finds no block."""
    if rounded <= SMALL_SIZE:
        return SMALL_SEGMENT
    expandable = settings.expandable_segments
    step = settings.large_segment_bytes if expandable or rounded < LARGEST_SHARED else LARGE_STEP
    return -(-rounded // step) * step
