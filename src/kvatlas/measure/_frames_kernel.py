"""The compiled loop of `frames` over events: what each of them does to what a frame shows.

Owns: the cell of a block, when it came into its state, when it is used next. Leaves to others:
which moments (`frames`), writing them down (`_frame_tape_kernel`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]
U16 = NDArray[np.uint16]

NEVER = 0
"""No next use; other values are ticks, plus one."""

CELL = record_dtype(
    key="i8",  # NONE without content
    owner="i4",  # who took it last, NONE once nothing of theirs is left
    ref_count="i4",
    since="i4",  # tick of the last change of state, or of its allocation
    next_use="i4",  # tick of the next touch, plus one; NEVER
)
CLOCK = record_dtype(start_ms="f8", ticks_per_ms="f8", last_tick="i4", frame="i4")


@entry
def advance(
    cells: Records,
    pending: I32,
    uses: U16,
    clock: Record,
    rows: Records,
    ids: I32,
    start: int,
    until_ms: float,
) -> int:
    """Let resolved rows from `start` on happen up to `until_ms`; return the first that is later.

    O(rows + ids), and O(frames) per use of a block, once for each frame.

    Args:
        cells: (N,) CELL, changed; `next_use` is not.
        pending: (N,) the first frame whose next use of the block is still open.
        uses: (K, N) next uses, written as they come; (0, N) when they are known already.
        clock: `frame`: how many frames have been taken.
        rows, ids: a resolved chunk.
    """
    for at in range(start, rows.shape[0]):
        row = rows[at]
        if row.time_ms > until_ms:
            return at
        if row.event == schema.RESET:
            tick = _tick(clock, row.time_ms, False)
            for block in range(cells.shape[0]):
                if cells[block].key != NONE:
                    _lose(cells[block], tick)
                    pending[block] = clock.frame
        elif row.blocks_at != NONE:
            _happen(cells, pending, uses, clock, row, ids)
    return int(rows.shape[0])


@kernel
def _happen(cells: Records, pending: I32, uses: U16, clock: Record, row: Record, ids: I32) -> None:
    tick, event = _tick(clock, row.time_ms, False), row.event
    use = _tick(clock, row.time_ms, True) + 1
    for i in range(row.count):
        block = int(ids[row.blocks_at + i])
        cell = cells[block]
        if event == schema.ALLOCATED or event == schema.TOUCHED:
            if event == schema.TOUCHED:
                for frame in range(pending[block], min(clock.frame, uses.shape[0])):
                    uses[frame, block] = use
            if event == schema.ALLOCATED or cell.ref_count == 0:
                cell.since = tick
            pending[block] = clock.frame
            cell.owner = row.request
            cell.ref_count = row.ref_count
        elif event == schema.CACHED:
            if cell.ref_count == 0 and cell.key == NONE:
                cell.since = tick
            cell.key = row.key + i * int(row.key_stride)
        elif event == schema.EVICTED:
            _lose(cell, tick)
            pending[block] = clock.frame
        elif event == schema.FREED:
            cell.ref_count = row.ref_count
            if row.ref_count == 0:
                cell.since = tick
                if cell.key == NONE:
                    cell.owner = NONE
        elif event == schema.MOVED:
            target = cells[row.to_block + i]
            target.key, target.owner = cell.key, cell.owner
            target.ref_count, target.since = cell.ref_count, tick
            cell.key = cell.owner = NONE
            cell.ref_count, cell.since = 0, tick
            pending[block] = pending[row.to_block + i] = clock.frame


@inlined
def _lose(cell: Record, tick: int) -> None:
    cell.key = NONE
    if cell.ref_count == 0:
        cell.owner = NONE
        cell.since = tick


@inlined
def _tick(clock: Record, time_ms: float, up: bool) -> int:
    """Return the tick at or before a moment, or (`up`) at or after it."""
    exact = (time_ms - clock.start_ms) * clock.ticks_per_ms
    tick = int(exact)
    if up and tick < exact:
        tick += 1
    return max(0, min(int(clock.last_tick), tick))
