"""The compiled loops of `sharing.py`, apart so that importing the workload layer stays light."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry as kernel

__all__ = ["prefix_tree", "reused_tokens"]


@kernel
def reused_tokens(
    ids: NDArray[Any],
    offsets: NDArray[np.int64],
    queried_tokens: NDArray[np.int64],
    kept_tokens: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    tokens_per_id: int,
    block_size: int,
    seen_tokens: NDArray[np.int32],
    used_s: NDArray[np.float64],
    reused: NDArray[np.int64],
    gap_counts: NDArray[np.int64],
    gap_low: float,
    gaps_per_octave: int,
) -> None:
    """Write into `reused` (N,) the prompt tokens that an unbounded cache serves, row by row.

    `seen_tokens` (num_ids,) holds how much of each identity's span some earlier request has left in
    full blocks, `used_s` when it was last touched; both are updated as the rows go by.
    """
    for row in range(offsets.size - 1):
        first = offsets[row]
        last = offsets[row + 1]
        found = 0
        for position in range(first, last):
            there = seen_tokens[ids[position]]
            found += there
            if there < tokens_per_id:
                break
        # At least the last prompt token is computed again.
        usable = min(found, queried_tokens[row] - 1)
        reused[row] = usable - usable % block_size

        kept = kept_tokens[row]
        now_s = arrival_s[row]
        for position in range(first, last):
            span = min(tokens_per_id, kept - (position - first) * tokens_per_id)
            if span <= 0:
                break
            node = ids[position]
            if seen_tokens[node] > 0:
                gap_s = now_s - used_s[node]
                bin_number = 0
                if gap_s > gap_low:
                    bin_number = 1 + int(math.log2(gap_s / gap_low) * gaps_per_octave)
                gap_counts[min(bin_number, gap_counts.size - 1)] += 1
            if span > seen_tokens[node]:
                seen_tokens[node] = span
            used_s[node] = now_s


@kernel
def prefix_tree(
    ids: NDArray[Any],
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    before: NDArray[np.int64],
    depth: NDArray[np.int64],
    goes_on: NDArray[np.bool_],
) -> None:
    """Fill per identity its requests, the identity before it, its place, and `goes_on`.

    `goes_on[i]` afterwards: some child of i is in as many requests as i, so a longer prefix is
    shared by the same requests.
    """
    for row in range(offsets.size - 1):
        previous = -1
        for position in range(offsets[row], offsets[row + 1]):
            node = ids[position]
            counts[node] += 1
            before[node] = previous
            depth[node] = position - offsets[row] + 1
            previous = node
    for node in range(counts.size):
        if before[node] >= 0 and counts[before[node]] == counts[node]:
            goes_on[before[node]] = True
