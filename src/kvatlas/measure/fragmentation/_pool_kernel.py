"""Who is used and who holds content, and the runs of free and of empty blocks, after every event.

Owns: what an event does to the states. Leaves to others: block tables (`_tables_kernel`), time
(`_tracker_kernel`), lengths of runs unless the tracker is exact.

A block that leaves a set makes two runs of one, shortens one, or takes the last block of one:
1 - (left is a gap) - (right is a gap) more runs than before; one that joins does the opposite.
Ids come in no order that a processor could guess, so the loops do arithmetic rather than branch;
and a block's state is a byte of its own, so that no change waits for the one before, as bits
of the same word would make it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.jit import inlined, kernel
from kvatlas.measure.fragmentation._states_kernel import CACHED, FRONT, U8, USED
from kvatlas.records import Record, record_dtype
from kvatlas.runs._run_index_kernel import Runs, set_member
from kvatlas.runs._words_kernel import ONE, U64

I32 = NDArray[np.int32]

COUNTS = record_dtype(
    usable="i8",
    used="i8",
    empty="i8",
    free_runs="i8",
    empty_runs="i8",
    changed="i8",  # blocks that events named
    copied="i8",  # blocks that were moved or swapped
    first_block="i8",  # 1 where block 0 is the null block
    staged="i8",  # the state of what is beside the pool, on its way from one block to another
)


class Pool(NamedTuple):
    """The state of every block, the null block's being USED for ever."""

    states: U8  # see `_states_kernel`
    words: U64  # the same memory
    counts: Record  # COUNTS


class Exact(NamedTuple):
    """The runs themselves, of an exact tracker; None of a sampling one, which compiles without."""

    free: Runs
    empty: Runs


@kernel
def _empty_changes(pool: Pool, exact: Exact | None, at: int, member: int) -> None:
    """Let the block at `at` join (`member` 1) or leave (0) the empty ones."""
    gaps = (1 if pool.states[at - 1] != 0 else 0) + (1 if pool.states[at + 1] != 0 else 0)
    sign = 2 * member - 1
    pool.counts.empty += sign
    pool.counts.empty_runs += sign * (gaps - 1)
    if exact is not None:
        set_member(exact.empty, at - FRONT, member)


@inlined
def _use(pool: Pool, exact: Exact | None, ids: I32, first: int, count: int, kept: int) -> None:
    """Let blocks have an owner; of what they held `kept` stays (CACHED or nothing)."""
    states = pool.states
    taken = runs = 0
    for i in range(first, first + count):
        at = np.uint64(ids[i] + FRONT)  # unsigned: Numba need not ask whether it is negative
        state = int(states[at])
        new = 1 - (state & USED)
        if state == 0:
            _empty_changes(pool, exact, int(np.int64(at)), 0)
        states[at] = (state & kept) | USED
        taken += new
        left, right = int(states[at - ONE]) & USED, int(states[at + ONE]) & USED
        runs += new * (1 - left - right)
        if exact is not None:
            set_member(exact.free, int(ids[i]), 0)
    pool.counts.used += taken
    pool.counts.free_runs += runs


@inlined
def _free(pool: Pool, exact: Exact | None, ids: I32, first: int, count: int) -> None:
    """Let blocks have no owner any more."""
    states = pool.states
    freed = runs = 0
    for i in range(first, first + count):
        at = np.uint64(ids[i] + FRONT)
        state = int(states[at])
        new = state & USED
        states[at] = state & CACHED
        freed += new
        left, right = int(states[at - ONE]) & USED, int(states[at + ONE]) & USED
        runs += new * (left + right - 1)
        if state == USED:
            _empty_changes(pool, exact, int(np.int64(at)), 1)
        if exact is not None:
            set_member(exact.free, int(ids[i]), 1)
    pool.counts.used -= freed
    pool.counts.free_runs += runs


@inlined
def change_pool(pool: Pool, exact: Exact | None, row: Record, ids: I32) -> None:
    """Let an event on blocks happen unless it is a rare one; O(ids).

    An eviction by allocation waits for the allocation: both are one change, at one moment. Blocks
    that keep other owners, or had some, do not change.
    """
    # All of it is inlined: handing the arrays over took 27 ns per event.
    event, first, count = row.event, int(row.blocks_at), int(row.count)
    pool.counts.changed += count
    if event == schema.ALLOCATED or event == schema.TOUCHED:
        _use(pool, exact, ids, first, count, 0 if event == schema.ALLOCATED else CACHED)
    elif event == schema.CACHED:
        for i in range(first, first + count):
            at = np.uint64(ids[i] + FRONT)
            state = int(pool.states[at])
            if state == 0:
                _empty_changes(pool, exact, int(np.int64(at)), 0)
            pool.states[at] = state | CACHED
    elif event == schema.FREED and row.ref_count == 0:
        _free(pool, exact, ids, first, count)


@inlined
def is_rare(row: Record) -> bool:
    """Say whether `change_rarely` must handle the event."""
    event = row.event
    return bool(
        event == schema.MOVED
        or event == schema.RESET
        or event == schema.SWAPPED_IN
        or event == schema.SWAPPED_OUT
        or (event == schema.EVICTED and row.cause != schema.BY_ALLOCATION)
    )


@kernel
def change_rarely(pool: Pool, exact: Exact | None, row: Record, ids: I32) -> None:
    """Let blocks be evicted on demand, moved or swapped, or the whole cache be forgotten."""
    if row.event == schema.RESET:
        # What lies before the first and behind the last block is used: it becomes no empty block.
        for at in range(pool.states.shape[0]):
            _set_state(pool, exact, at, int(pool.states[at]) & USED)
        pool.counts.changed += pool.counts.usable
        return
    first, count = int(row.blocks_at), int(row.count)
    pool.counts.changed += count
    for i in range(count):
        at = int(ids[first + i]) + FRONT
        if row.event == schema.EVICTED:
            _set_state(pool, exact, at, int(pool.states[at]) & USED)
        elif row.event == schema.MOVED:
            _move(pool, exact, at, int(row.to_block) + i + FRONT)
    if row.event != schema.EVICTED:
        pool.counts.copied += count


@inlined
def _move(pool: Pool, exact: Exact | None, source: int, target: int) -> None:
    """Let a state go from one block to another; the null block stands for a place beside them."""
    counts = pool.counts
    if source - FRONT < counts.first_block:
        state = int(counts.staged)
        counts.staged = 0
    else:
        state = int(pool.states[source])
        _set_state(pool, exact, source, 0)
    if target - FRONT < counts.first_block:
        counts.staged = state
    else:
        _set_state(pool, exact, target, state)


@kernel
def _set_state(pool: Pool, exact: Exact | None, at: int, state: int) -> None:
    """Give the block at `at` any state."""
    old = int(pool.states[at])
    pool.states[at] = state
    if (old & USED) != (state & USED):
        gaps = (int(pool.states[at - 1]) & USED) + (int(pool.states[at + 1]) & USED)
        sign = 1 - 2 * (state & USED)
        pool.counts.used -= sign
        pool.counts.free_runs += sign * (gaps - 1)
        if exact is not None:
            set_member(exact.free, at - FRONT, 1 - (state & USED))
    if (old == 0) != (state == 0):
        _empty_changes(pool, exact, at, 1 if state == 0 else 0)
