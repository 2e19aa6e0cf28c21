"""The compiled loops of `segments.py`, apart so that importing the generators stays light."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry as kernel

__all__ = ["end_tokens", "name_blocks"]


@kernel
def end_tokens(
    parent: NDArray[np.int64], tokens: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    """Write into `ends` the tokens from the root to the end of each segment (parents first)."""
    for segment in range(parent.size):
        above = ends[parent[segment]] if parent[segment] >= 0 else 0
        ends[segment] = above + tokens[segment]


@kernel
def name_blocks(
    parent: NDArray[np.int64],
    full_blocks: NDArray[np.int64],
    has_tail: NDArray[np.bool_],
    leaf: NDArray[np.int64],
    offsets: NDArray[np.int64],
    first_id: NDArray[np.int64],
    tail_id: NDArray[np.int64],
    path: NDArray[np.int64],
    ids: NDArray[Any],
) -> int:
    """Fill `ids` and return how many distinct ones there are; numbered by first appearance.

    `first_id` and `tail_id` (one per segment) start at -1; `path` is scratch for the deepest path.
    """
    next_id = 0
    for row in range(leaf.size):
        depth = 0
        segment = leaf[row]
        while segment >= 0 and first_id[segment] < 0:
            path[depth] = segment
            depth += 1
            segment = parent[segment]
        while depth > 0:
            depth -= 1
            first_id[path[depth]] = next_id
            next_id += full_blocks[path[depth]]
        segment = leaf[row]
        position = offsets[row + 1]
        if has_tail[segment]:
            if tail_id[segment] < 0:
                tail_id[segment] = next_id
                next_id += 1
            position -= 1
            ids[position] = tail_id[segment]
        while segment >= 0:
            position -= full_blocks[segment]
            for block in range(full_blocks[segment]):
                ids[position + block] = first_id[segment] + block
            segment = parent[segment]
    return next_id
