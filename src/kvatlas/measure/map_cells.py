"""The block map's cells: neighbouring blocks counted together, and the free runs between them.

Owns: what is in a cell, who holds blocks, runs of free blocks at one moment. Leaves to others:
glyphs and colours (`kvatlas.report.map_terminal`), figures over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.snapshot import EMPTY, EVICTABLE, USED, FragmentationSnapshot

__all__ = [
    "NOBODY",
    "SEVERAL",
    "FreeRuns",
    "Holder",
    "MapCells",
    "free_runs",
    "holders",
    "map_cells",
]

NOBODY, SEVERAL = -1, -2

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MapCells:
    """C cells of `per_cell` blocks each (the last may have fewer), of blocks `[first, stop)`.

    Attributes:
        used, evictable, empty: (C,) blocks in each state; the null block is in none of them.
        label: (C,) whose all used blocks of the cell are, NOBODY without any, SEVERAL when mixed.
    """

    first: int
    stop: int
    per_cell: int
    used: I64
    evictable: I64
    empty: I64
    label: I64


@dataclass(frozen=True, slots=True)
class FreeRuns:
    """Maximal runs of consecutive free ids.

    Attributes:
        lengths: their lengths, rising.
        free: free blocks.
        external_index: 1 - largest run / free blocks, None without a free block.
    """

    lengths: I64
    free: int
    external_index: float | None

    @property
    def largest(self) -> int:
        """Blocks of the longest run."""
        return int(self.lengths[-1]) if self.lengths.size else 0


@dataclass(frozen=True, slots=True)
class Holder:
    """A request's blocks: how many, and how many ascending consecutive runs they make."""

    request: int
    blocks: int
    runs: int


def map_cells(
    snapshot: FragmentationSnapshot, labels: I32, first: int, stop: int, per_cell: int
) -> MapCells:
    """Count blocks `[first, stop)` in cells of `per_cell`; O(stop - first).

    Args:
        snapshot: the moment.
        labels: (N,) whom or what a used block belongs to; only used blocks' labels count.
        first, stop: the blocks shown.
        per_cell: blocks per cell.
    """
    states = snapshot.states()[first:stop]
    starts = np.arange(0, stop - first, per_cell)
    used = states == USED
    if snapshot.has_null and first == 0:
        used[0] = False
    in_use, evictable, empty = (
        np.add.reduceat(each.astype(np.int64), starts)
        for each in (used, states == EVICTABLE, states == EMPTY)
    )
    shown = labels[first:stop].astype(np.int64)
    lowest = np.minimum.reduceat(np.where(used, shown, np.iinfo(np.int64).max), starts)
    highest = np.maximum.reduceat(np.where(used, shown, np.iinfo(np.int64).min), starts)
    label = np.where(lowest == highest, lowest, SEVERAL)
    label[in_use == 0] = NOBODY
    return MapCells(first, stop, per_cell, in_use, evictable, empty, label)


def free_runs(snapshot: FragmentationSnapshot, *, empty_only: bool = False) -> FreeRuns:
    """Return the runs of the whole pool; free is empty or evictable, or `empty_only`. O(N)."""
    states = snapshot.states()
    free = states == EMPTY if empty_only else states != USED
    change = np.diff(np.concatenate(([False], free, [False])).astype(np.int8))
    lengths = np.sort(np.flatnonzero(change == -1) - np.flatnonzero(change == 1))
    total = int(free.sum())
    return FreeRuns(lengths, total, 1 - int(lengths[-1]) / total if total else None)


def holders(snapshot: FragmentationSnapshot, most: int) -> list[Holder]:
    """Return the requests with the most blocks, shared ones counted for each; O(cells)."""
    blocks, runs = _per_request(snapshot)
    order = np.lexsort((np.arange(blocks.size), -blocks))[:most]
    return [Holder(int(row), int(blocks[row]), int(runs[row])) for row in order if blocks[row] > 0]


def _per_request(snapshot: FragmentationSnapshot) -> tuple[I64, I64]:
    requests = int(snapshot.table_request.max(initial=-1)) + 1
    tables = np.repeat(np.arange(snapshot.table_request.size), np.diff(snapshot.table_offsets))
    held = snapshot.table_blocks >= 0
    table, block = tables[held], snapshot.table_blocks[held].astype(np.int64)
    begins = np.ones(block.size, bool)
    begins[1:] = (table[1:] != table[:-1]) | (block[1:] != block[:-1] + 1)
    owner = snapshot.table_request[table]
    blocks = np.bincount(owner, minlength=requests)
    runs = np.bincount(owner[begins], minlength=requests)
    return blocks.astype(np.int64), runs.astype(np.int64)
