"""The calls that a run made on its pool, made again on a pool alone.

Owns: which call an event stands for. Leaves to others: the rules (`pool`, `prefix_index`), timing
and what comes of it (`engine.pool_calls`).
"""

from __future__ import annotations

from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels import prefix_index
from kvatlas.engine.kernels.state import I32, NONE, Pool
from kvatlas.events import schema
from kvatlas.jit import entry, kernel
from kvatlas.records import Records


@entry
def make_calls(pool: Pool, rows: Records, ids: I32, got: I32, last: I32, room: I32) -> int:
    """Make the calls of resolved rows; write the blocks that allocations gave into `got`.

    Args:
        got: as long as the ids; what a row allocates lies where its ids do.
        last: (R, G) the last block of each table.
        room: (longest table + 1,) working space.

    Returns:
        NONE, or the row of an event that is no call of a replay. O(rows + ids).
    """
    at = 0
    while at < rows.shape[0]:
        row = rows[at]
        event = row.event
        stop = at + 1
        if event == schema.ALLOCATED:
            _allocate(pool, rows, at, got, last, room)
        elif event == schema.TOUCHED:
            for i in range(row.blocks_at, row.blocks_at + row.count):
                pool_.touch(pool, int(ids[i]))
            last[row.request, row.group] = ids[row.blocks_at + row.count - 1]
        elif event == schema.CACHED:
            _cache(pool, rows, ids, at)
        elif event == schema.FREED:
            stop = _free(pool, rows, ids, at, room)
        elif (
            event == schema.RESET
            or event == schema.MOVED
            or (event == schema.EVICTED and row.cause != schema.BY_ALLOCATION)
            or event == schema.SWAPPED_IN
            or event == schema.SWAPPED_OUT
        ):
            return at
        at = stop
    return NONE


@kernel
def _allocate(pool: Pool, rows: Records, at: int, got: I32, last: I32, room: I32) -> None:
    """Allocate a row's blocks behind the last one of its table, as the engine does in place."""
    row = rows[at]
    count, first = int(row.count), int(row.blocks_at)
    start = 1 if row.position > 0 else 0
    room[0] = last[row.request, row.group]
    pool_.get_new_blocks(pool, count, room, start)
    for i in range(count):
        got[first + i] = room[start + i]
    last[row.request, row.group] = room[start + count - 1]


@kernel
def _cache(pool: Pool, rows: Records, ids: I32, at: int) -> None:
    """Cache a row's blocks under its keys."""
    row = rows[at]
    first, count, group, key = int(row.blocks_at), int(row.count), int(row.group), int(row.key)
    slot, before = 0, NONE - 1
    for i in range(count):
        slot = prefix_index.follow(pool, slot, before, key)
        before = key
        prefix_index.insert(pool, group, key, int(ids[first + i]), slot)
        key += int(row.key_stride)
    pool.info.cached += count
    pool.info.inserts += count


@kernel
def _free(pool: Pool, rows: Records, ids: I32, at: int, room: I32) -> int:
    """Give back what consecutive rows of one table tell, in one call; return the row after them.

    One call was made, and told as a row for each number of owners left.
    """
    request, group, cause = rows[at].request, rows[at].group, rows[at].cause
    count, stop = 0, at
    while stop < rows.shape[0]:
        row = rows[stop]
        if row.event != schema.FREED or row.request != request or row.group != group:
            break
        if row.cause != cause or count + row.count > room.shape[0]:
            break
        for i in range(row.blocks_at, row.blocks_at + row.count):
            room[count] = ids[i]
            count += 1
        stop += 1
    pool_.free_blocks(pool, room, 0, count, 1)
    return stop
