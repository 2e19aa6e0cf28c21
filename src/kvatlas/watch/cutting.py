"""Parts of a chunk: some of its rows, and some of the steps of a row that stands for many.

Owns: where a chunk may be cut, and that a part stands on its own. Leaves to others: when to cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk
from kvatlas.events.schema import EVICTED, NONE, STEP

__all__ = ["cut", "end_of", "split_step", "whole_stop"]

Rows = NDArray[np.void]


def cut(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Return rows `[start, stop)` with their ids only, a copy; O(rows + ids of the part)."""
    rows = chunk.rows[start:stop].copy()
    lists = rows["blocks_at"] != NONE
    if not lists.any():
        return Chunk(rows, np.empty(0, np.int32))
    places = rows["blocks_at"][lists].astype(np.int64)
    first = int(places.min())
    last = int((places + rows["count"][lists]).max())
    rows["blocks_at"][lists] -= first
    return Chunk(rows, chunk.ids[first:last].copy())


def whole_stop(rows: Rows, stop: int) -> int:
    """Return the first place from `stop` on where rows may be cut.

    Evictions' blocks are named by the allocation after them, so they stay together.
    """
    while stop < len(rows) and stop > 0:
        row = rows[stop - 1]
        if row["event"] != EVICTED or row["blocks_at"] != NONE:
            break
        stop += 1
    return stop


def end_of(rows: Rows) -> float:
    """Return when the last of the rows is over, ms: steps last for some time."""
    lasting: NDArray[np.float64] = rows["span_ms"] * rows["count"]
    spans = np.where(rows["event"] == STEP, lasting, 0.0)
    return float((rows["time_ms"] + spans).max(initial=-np.inf))


def split_step(taken: Rows, rows: Rows, at: int, steps: int, slot_groups: int) -> None:
    """Split row `rows[at]`: its first `steps` into the last row of `taken`, the rest stays.

    Each step fills `tokens` empty slots in every group whose blocks are made of slots.
    """
    taken["count"][-1] = steps
    tokens = int(rows["tokens"][at])
    rows["count"][at] -= steps
    rows["step"][at] += steps
    rows["time_ms"][at] += steps * float(rows["span_ms"][at])
    if rows["wasted_slots"][at] != NONE:
        rows["wasted_slots"][at] = max(
            0, int(rows["wasted_slots"][at]) - steps * tokens * slot_groups
        )
