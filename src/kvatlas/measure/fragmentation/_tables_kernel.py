"""The block tables of the requests that hold blocks, and the ascending runs in them.

Owns: runs per request after every event. Leaves to others: what the runs mean. A table's runs are
its blocks less its *links*: neighbours in the table of which the second has the next id. A request
that gives everything back is gone at the first row that says so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import inlined, kernel
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]

HOLDER = record_dtype(request="i4", blocks="i4", links="i4")
REQUEST = record_dtype(
    slot="i4",  # NONE while it holds nothing
    session="i4",
    runs="i4",  # of the last table it gave back
    blocks="i4",
    peak_runs="i4",
)
TOTALS = record_dtype(free_slots="i8", runs="i8", blocks="i8", holders="i8", overflow="i8")


class Tables(NamedTuple):
    """Tables of S requests at most, in G groups, W blocks long."""

    cells: I32  # (S, G, W) NONE where a block has left
    lengths: I32  # (S, G)
    holders: Records  # (S,) HOLDER
    requests: Records  # (R,) REQUEST
    free_slots: I32  # (S,) stack
    totals: Record  # TOTALS


@inlined
def enter_table(tables: Tables, row: Record, ids: I32) -> None:
    """Append an event's blocks to the table; O(ids)."""
    if row.request == NONE:
        return
    slot = int(tables.requests[row.request].slot)
    if slot == NONE and tables.totals.free_slots > 0:
        tables.totals.free_slots -= 1
        slot = int(tables.free_slots[tables.totals.free_slots])
        tables.requests[row.request].slot = slot
        tables.holders[slot].request = row.request
    group, position, count = int(row.group), int(row.position), int(row.count)
    if slot == NONE or group < 0 or position < 0 or position + count > tables.cells.shape[2]:
        tables.totals.overflow = 1
        return
    cells = tables.cells[slot, group]
    for i in range(tables.lengths[slot, group], position):
        cells[i] = NONE
    before = int(cells[position - 1]) if position > 0 else NONE
    if before == NONE:
        before = NONE - 1  # block 0 does not follow it
    links, first = 0, int(row.blocks_at)
    for i in range(count):
        block = int(ids[first + i])
        if block == before + 1:
            links += 1
        cells[position + i] = block
        before = block
    tables.lengths[slot, group] = position + count
    _change(tables, slot, count, links)


@kernel
def leave_table(tables: Tables, request: int, last: bool) -> None:
    """The request gives everything back; with `last` it runs no longer either; O(groups)."""
    if request == NONE or tables.requests[request].slot == NONE:
        return
    slot = int(tables.requests[request].slot)
    holder = tables.holders[slot]
    if holder.blocks > 0:
        tables.requests[request].blocks = holder.blocks
        tables.requests[request].runs = holder.blocks - holder.links
        _change(tables, slot, -int(holder.blocks), -int(holder.links))
    for group in range(tables.lengths.shape[1]):
        tables.lengths[slot, group] = 0
    if last:
        tables.requests[request].slot = NONE
        holder.request = NONE
        tables.free_slots[tables.totals.free_slots] = slot
        tables.totals.free_slots += 1


@kernel
def leave_partly(tables: Tables, row: Record) -> None:
    """Take a freed row's positions, falling from `position`, out of the table; O(ids)."""
    if row.request == NONE or tables.requests[row.request].slot == NONE:
        return
    slot = int(tables.requests[row.request].slot)
    group, position, count = int(row.group), int(row.position), int(row.count)
    cells, length = tables.cells[slot, group], int(tables.lengths[slot, group])
    blocks = links = 0
    for at in range(min(position, length - 1), max(-1, position - count), -1):
        block = int(cells[at])
        if block == NONE:
            continue
        if at > 0 and cells[at - 1] != NONE and cells[at - 1] + 1 == block:
            links += 1
        if at + 1 < length and cells[at + 1] == block + 1:
            links += 1
        cells[at] = NONE
        blocks += 1
    if row.cause == schema.BY_RELEASED and position == length - 1:
        tables.lengths[slot, group] = max(0, position - count + 1)
    _change(tables, slot, -blocks, -links)


@kernel
def _change(tables: Tables, slot: int, blocks: int, links: int) -> None:
    holder, totals = tables.holders[slot], tables.totals
    had_blocks = holder.blocks > 0
    holder.blocks += blocks
    holder.links += links
    totals.blocks += blocks
    totals.runs += blocks - links
    if had_blocks != (holder.blocks > 0):
        totals.holders += -1 if had_blocks else 1
    request = tables.requests[holder.request]
    request.peak_runs = max(request.peak_runs, holder.blocks - holder.links)


@kernel
def move_cells(tables: Tables, moved_to: I32, row: Record, ids: I32) -> None:
    """Write the new ids of moved blocks into all tables; O(cells in use + ids).

    `moved_to`, (N,), is 0 before and after; meanwhile 1 + where a block goes.
    """
    first = int(row.blocks_at)
    for i in range(row.count):
        moved_to[ids[first + i]] = 1 + row.to_block + i
    for slot in range(tables.holders.shape[0]):
        if tables.holders[slot].blocks == 0:
            continue
        links = 0
        for group in range(tables.lengths.shape[1]):
            before = NONE - 1
            for at in range(tables.lengths[slot, group]):
                block = int(tables.cells[slot, group, at])
                if block == NONE:
                    before = NONE - 1
                    continue
                if moved_to[block] != 0:
                    block = int(moved_to[block]) - 1
                    tables.cells[slot, group, at] = block
                if block == before + 1:
                    links += 1
                before = block
        _change(tables, slot, 0, links - int(tables.holders[slot].links))
    for i in range(row.count):
        moved_to[ids[first + i]] = 0
