"""From table positions to block ids, for every event on blocks, with everything checked.

Owns: the block tables that the stream implies. Leaves to others: what the events do to the blocks
(`_state_kernel`), words for what is wrong (`resolve`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]

# What can be wrong with an event; the words are in `resolve.FAULTS`.
(
    FINE,
    UNKNOWN_EVENT,
    UNKNOWN_CAUSE,
    BAD_REQUEST,
    BAD_GROUP,
    BAD_COUNT,
    BAD_BLOCK,
    BAD_POSITION,
    BAD_KEY,
    BAD_TIME,
    BAD_TOKENS,
    NO_ALLOCATION,
    TOO_MANY_TABLES,
    NO_BLOCKS,
) = range(14)

_LARGE = 1 << 48
NUM_EVENTS, NUM_CAUSES = len(schema.EVENTS), len(schema.CAUSES)

LIMITS = record_dtype(
    num_blocks="i8",
    first_block="i8",  # 1 where block 0 is the null block
    num_requests="i8",
    num_keys="i8",  # 0: any
    free_slots="i8",
    bad_row="i8",
)


class Tables(NamedTuple):
    """The block tables of the requests that hold blocks."""

    cells: I32  # (S, G, W) block ids, NONE where a block has left
    lengths: I32  # (S, G)
    slot_of: I32  # (R,) NONE without
    request_of: I32  # (S,) NONE without
    free_slots: I32  # (S,) stack
    moved_to: I32  # (N,) zeros between events
    limits: Record  # LIMITS


@inlined
def on_blocks(event: int) -> bool:
    """Say whether an event is about blocks."""
    return (
        event == schema.TOUCHED
        or event == schema.EVICTED
        or event == schema.ALLOCATED
        or event == schema.CACHED
        or event == schema.FREED
        or event == schema.MOVED
        or event == schema.SWAPPED_OUT
        or event == schema.SWAPPED_IN
    )


@entry
def count_ids(rows: Records, start: int, most: int, longest: int) -> tuple[int, int]:
    """Return (stop, ids): rows `[start, stop)` name at most some `most` ids by their positions.

    A stretch never ends between evictions and the allocation they belong to. O(rows).
    """
    ids = 0
    stop = start
    while stop < rows.shape[0]:
        row = rows[stop]
        if ids >= most and row.event != schema.ALLOCATED and row.event != schema.EVICTED:
            break
        if on_blocks(row.event) and row.blocks_at == NONE and 0 < row.count <= longest:
            ids += row.count
        stop += 1
    return stop, ids


@entry
def resolve_rows(
    tables: Tables, rows: Records, start: int, stop: int, ids: I32, used: int, listed: int
) -> int:
    """Give every row in `[start, stop)` that is about blocks its place in `ids`; O(rows + ids).

    Args:
        tables: the block tables before the rows; after them on return.
        rows: changed in place: `blocks_at` only.
        ids: room behind the first `used` for what rows name by position.
        listed: the leading ids of `ids` that came with the rows.

    Returns:
        FINE, or what is wrong with row `limits.bad_row`.
    """
    limits = tables.limits
    allocation = NONE  # the last or next allocated row
    for at in range(start, stop):
        row = rows[at]
        limits.bad_row = at
        fault = _check(limits, row)
        if fault != FINE:
            return fault
        if row.event == schema.PREEMPTED or row.event == schema.FINISHED:
            _release(tables, int(row.request))
        if not on_blocks(row.event):
            row.blocks_at = NONE
            continue
        # In plain Python a sum of two int32 would overflow.
        if row.count < 0 or (row.blocks_at != NONE and int(row.blocks_at) + row.count > listed):
            return BAD_COUNT
        if row.event == schema.EVICTED and row.blocks_at == NONE:
            if allocation <= at:
                allocation = _next_allocation(rows, at)
            if allocation == NONE:
                return NO_ALLOCATION
            taker = rows[allocation]
            offset = int(row.position) - int(taker.position)
            if taker.blocks_at < 0 or offset < 0 or offset + row.count > taker.count:
                return NO_ALLOCATION
            if int(taker.blocks_at) + taker.count > listed:
                return BAD_COUNT
            row.blocks_at = taker.blocks_at + offset
        elif row.blocks_at == NONE:
            if row.event == schema.ALLOCATED or row.event == schema.TOUCHED:
                return NO_BLOCKS
            fault, used = _look_up(tables, row, ids, used)
            if fault != FINE:
                return fault
        # What is moved may come from beside the pool: the null block's place.
        first_block = 0 if row.event == schema.MOVED else limits.first_block
        for i in range(row.blocks_at, row.blocks_at + row.count):
            if not first_block <= ids[i] < limits.num_blocks:
                return BAD_BLOCK
        fault = _follow(tables, row, ids)
        if fault != FINE:
            return fault
    return FINE


@kernel
def _check(limits: Record, row: Record) -> int:
    """Return what is wrong with a row by itself."""
    if not 0 <= row.event < NUM_EVENTS:
        return UNKNOWN_EVENT
    if not NONE <= row.cause < NUM_CAUSES:
        return UNKNOWN_CAUSE
    if not (NONE <= row.request < limits.num_requests and NONE <= row.other < limits.num_requests):
        return BAD_REQUEST
    about_request = (
        row.event == schema.ARRIVED
        or row.event == schema.LOOKED_UP
        or row.event == schema.ADMITTED
        or row.event == schema.SCHEDULED
        or row.event == schema.PREEMPTED
        or row.event == schema.FINISHED
        or row.event == schema.ALLOCATION_FAILED
    )
    if about_request and row.request == NONE:
        return BAD_REQUEST
    if not (-1e15 < row.time_ms < 1e15 and 0 <= row.span_ms < 1e15 and NONE <= row.step < _LARGE):
        return BAD_TIME
    if not (
        NONE <= row.tokens < _LARGE
        and NONE <= row.computed_tokens < _LARGE
        and -_LARGE < row.wasted_slots < _LARGE
    ):
        return BAD_TOKENS
    if (row.event == schema.STEP or row.event == schema.ALLOCATION_FAILED) and row.count < 1:
        return BAD_COUNT
    if row.event == schema.CACHED or row.event == schema.EVICTED:
        last = row.key + (int(row.count) - 1) * int(row.key_stride)
        if not -1 <= row.key_stride <= 1:
            return BAD_KEY
        if limits.num_keys > 0 and not (
            0 <= row.key < limits.num_keys and 0 <= last < limits.num_keys
        ):
            return BAD_KEY
    return FINE


@kernel
def _next_allocation(rows: Records, at: int) -> int:
    while at < rows.shape[0]:
        event = rows[at].event
        if event == schema.ALLOCATED:
            return at
        if event != schema.EVICTED:
            return NONE
        at += 1
    return NONE


@kernel
def _look_up(tables: Tables, row: Record, ids: I32, used: int) -> tuple[int, int]:
    """Write the ids at the row's table positions behind the `used` ones."""
    if row.request == NONE or tables.slot_of[row.request] == NONE:
        return BAD_REQUEST, used
    slot = tables.slot_of[row.request]
    if not 0 <= row.group < tables.cells.shape[1]:
        return BAD_GROUP, used
    length = tables.lengths[slot, row.group]
    step = -1 if row.event == schema.FREED else 1
    last = int(row.position) + (int(row.count) - 1) * step
    if row.count > length or min(row.position, last) < 0 or max(row.position, last) >= length:
        return BAD_POSITION, used
    row.blocks_at = used
    position = int(row.position)
    for i in range(used, used + row.count):
        ids[i] = tables.cells[slot, row.group, position]
        position += step
    return FINE, int(used + row.count)


@kernel
def _follow(tables: Tables, row: Record, ids: I32) -> int:
    """Let the block tables follow an event."""
    if row.event == schema.MOVED:
        if row.to_block < 0:
            return BAD_BLOCK
        if int(row.to_block) + row.count > tables.limits.num_blocks:
            return BAD_BLOCK
        _rename(tables, row, ids)
        return FINE
    enters = row.event == schema.ALLOCATED or row.event == schema.TOUCHED
    if row.group < NONE or row.group >= tables.cells.shape[1]:
        return BAD_GROUP
    if row.request == NONE or not (enters or row.event == schema.FREED):
        return FINE
    if row.group == NONE:
        return BAD_GROUP
    slot = int(tables.slot_of[row.request])
    if slot == NONE:
        if not enters or tables.limits.free_slots == 0:
            return TOO_MANY_TABLES if enters else BAD_REQUEST
        slot = _take(tables, int(row.request))
    cells = tables.cells
    length = int(tables.lengths[slot, row.group])
    if enters:
        if row.position < 0 or int(row.position) + row.count > cells.shape[2]:
            return BAD_POSITION
        for i in range(length, row.position):
            cells[slot, row.group, i] = NONE
        for i in range(row.count):
            cells[slot, row.group, row.position + i] = ids[row.blocks_at + i]
        tables.lengths[slot, row.group] = max(length, row.position + row.count)
        return FINE
    if not (row.count <= int(row.position) + 1 and row.position < length):
        return BAD_POSITION
    for i in range(row.position - row.count + 1, row.position + 1):
        cells[slot, row.group, i] = NONE
    if row.cause != schema.BY_SKIPPED and row.position == length - 1:
        tables.lengths[slot, row.group] = row.position - row.count + 1
    return FINE


@kernel
def _take(tables: Tables, request: int) -> int:
    limits = tables.limits
    limits.free_slots -= 1
    slot = int(tables.free_slots[limits.free_slots])
    tables.slot_of[request] = slot
    tables.request_of[slot] = request
    for group in range(tables.lengths.shape[1]):
        tables.lengths[slot, group] = 0
    return slot


@kernel
def _release(tables: Tables, request: int) -> None:
    slot = tables.slot_of[request]
    if slot != NONE:
        tables.slot_of[request] = NONE
        tables.request_of[slot] = NONE
        tables.free_slots[tables.limits.free_slots] = slot
        tables.limits.free_slots += 1


@kernel
def _rename(tables: Tables, row: Record, ids: I32) -> None:
    """Put the new ids of moved blocks into every table; O(cells in use + moved)."""
    first, moved_to = int(row.blocks_at), tables.moved_to
    for i in range(row.count):
        moved_to[ids[first + i]] = 1 + row.to_block + i
    for slot in range(tables.request_of.shape[0]):
        if tables.request_of[slot] == NONE:
            continue
        for group in range(tables.lengths.shape[1]):
            for at in range(tables.lengths[slot, group]):
                block = int(tables.cells[slot, group, at])
                if block != NONE and moved_to[block] != 0:
                    tables.cells[slot, group, at] = moved_to[block] - 1
    for i in range(row.count):
        moved_to[ids[first + i]] = 0
