"""The event log: a buffer of records that compiled code appends to.

Owns: adding rows, and the context that rows have in common (step, clock, request, group, cause).
Leaves to others: which events there are to log (the engine's `recording` kernels), emptying it.

A log that is off costs one comparison per call of the pool, none per block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.chunk import Chunk
from kvatlas.events.schema import EVENT, NONE
from kvatlas.jit import kernel
from kvatlas.records import Record, Records, one_record, record_dtype

I32 = NDArray[np.int32]

LOG_INFO = record_dtype(
    on="i8",  # 1 when somebody listens
    used="i8",  # rows in the buffer
    ids_used="i8",
    dropped="i8",  # rows or lists that found no room
    failed_at="i8",  # the row of the last refusal, NONE once the buffer has been emptied
    step="i8",  # context of the rows to come
    time_ms="f8",
    request="i8",
    group="i8",
    cause="i8",  # of allocated blocks
    free_cause="i8",
    computed="i8",
    step_rows="i8",  # upper bound of the rows of one step
    needed="i8",  # blocks that the last refused request needed
)


class Log(NamedTuple):
    """Rows, the block ids they list, and the context of the rows to come."""

    rows: Records  # (capacity,) EVENT
    ids: I32
    info: Record  # LOG_INFO


def make_log(rows: int = 0, ids: int = 0) -> Log:
    """Return an empty log, off without room. The system hands out only the memory written to."""
    info = one_record(LOG_INFO, on=int(rows > 0), failed_at=NONE, request=NONE, group=NONE)
    info.cause = info.free_cause = info.computed = NONE
    return Log(
        np.empty(max(1, rows), EVENT).view(np.recarray), np.empty(max(1, ids), np.int32), info
    )


def take_chunk(log: Log) -> Chunk:
    """Return views of what was logged and empty the log: use them before it is written again."""
    chunk = Chunk(np.asarray(log.rows[: int(log.info.used)]), log.ids[: int(log.info.ids_used)])
    log.info.used = log.info.ids_used = 0
    log.info.failed_at = NONE
    return chunk


@kernel
def new_row(log: Log, event: int, cause: int) -> int:
    """Append an event that has only its context yet; return its row.

    A full buffer keeps its last row for the events that are lost, and counts them: whoever empties
    the log must look at `dropped`.
    """
    info = log.info
    at = int(info.used)
    if at == log.rows.shape[0]:
        info.dropped += 1
        at -= 1
    else:
        info.used = at + 1
    row = log.rows[at]
    row.event = event
    row.cause = cause
    row.step = info.step
    row.time_ms = info.time_ms
    row.request = info.request
    row.session = NONE
    row.group = NONE
    row.count = NONE
    row.position = NONE
    row.key = NONE
    row.key_stride = 0
    row.ref_count = NONE
    row.tokens = NONE
    row.computed_tokens = NONE
    row.other = NONE
    row.blocks_needed = NONE
    row.free_blocks = NONE
    row.running = NONE
    row.waiting = NONE
    row.wasted_slots = NONE
    row.span_ms = 0.0
    row.to_block = NONE
    row.blocks_at = NONE
    return at


@kernel
def put_blocks(log: Log, event: int, cause: int, group: int, position: int, count: int) -> int:
    """Append an event on `count` blocks of the block table; return its row."""
    at = new_row(log, event, cause)
    row = log.rows[at]
    row.group = group
    row.position = position
    row.count = count
    return at


@kernel
def list_blocks(log: Log, row: int, table: I32, start: int, stop: int, step: int) -> None:
    """Write down the ids `table[start:stop:step]` as those of event `row`."""
    info = log.info
    at = int(info.ids_used)
    count = (stop - start) // step
    if at + count > log.ids.shape[0]:
        info.dropped += 1
        log.rows[row].count = 0
        return
    log.rows[row].blocks_at = at
    for i in range(start, stop, step):
        log.ids[at] = table[i]
        at += 1
    info.ids_used = at


@kernel
def put_request(log: Log, event: int, cause: int, request: int, tokens: int, computed: int) -> int:
    """Append an event on a request; return its row."""
    at = new_row(log, event, cause)
    row = log.rows[at]
    row.request = request
    row.tokens = tokens
    row.computed_tokens = computed
    return at
