"""From when to when every block and every piece of device memory lived, for pictures of any moment.

Owns: `DeviceLives`. Leaves to others: who is alive at one moment with what it pins (`moment`), the
replay that says how long each block is (`twin`).

A block is alive after event e when it was allocated at e or before and not yet given back:

    born          freed            gone
      |-- allocated --|-- waiting --|      (another stream still uses it while it waits)

Free memory needs no lives of its own: it is what no block covers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import SMALL_SEGMENT
from kvatlas.device.moment import AllocatorMoment
from kvatlas.device.results import Timeline
from kvatlas.device.snapshot import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    SEGMENT_ALLOC,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    DeviceTrace,
)

__all__ = ["BEFORE", "NEVER", "DeviceLives", "lives_of"]

I64 = NDArray[np.int64]
BEFORE = -1
"""The event of what happened before the trace."""
NEVER = np.iinfo(np.int64).max
"""The event of what has not happened by its end."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeviceLives:
    """Every block and every segment that a trace shows, each with its time.

    Attributes:
        block_address, block_bytes, block_requested_bytes, block_stack: (blocks,), in the order in
            which they were allocated, those from before the trace first; stack 0: not known.
        block_born, block_freed, block_gone: (blocks,) the events that allocated it, gave it back,
            and after which nobody used it any more; `BEFORE` and `NEVER`.
        segment_address, segment_bytes, segment_stream, segment_pool, segment_small,
            segment_expandable: (segments,); of an expandable one, pages that came at once.
        segment_born, segment_gone: (segments,) events.
    """

    block_address: I64
    block_bytes: I64
    block_requested_bytes: I64
    block_stack: I64
    block_born: I64
    block_freed: I64
    block_gone: I64
    segment_address: I64
    segment_bytes: I64
    segment_stream: I64
    segment_pool: I64
    segment_small: NDArray[np.bool_]
    segment_expandable: NDArray[np.bool_]
    segment_born: I64
    segment_gone: I64


def lives_of(
    trace: DeviceTrace,
    subject: I64,
    start: AllocatorMoment,
    timeline: Timeline,
    pool: I64,
    large_page_bytes: int,
) -> DeviceLives:
    """Return the lives of a trace; O(n log n).

    Args:
        trace: n events.
        subject: (n,) the number of the block that each event is about, for those about one.
        start: the moment before the first event.
        timeline: bytes after every event, which say how long each block is.
        pool: (n,) the pool of each event.
        large_page_bytes: of expandable segments of the large pool.
    """
    action = trace.action
    allocs = np.flatnonzero(action == ALLOC)
    old = np.flatnonzero(start.block_state != 0)
    # A block that was freed and then waited for a stream is counted until it is gone.
    grown = np.diff(timeline.active_bytes, prepend=np.int64(start.active_bytes))
    count = old.size + allocs.size
    freed = np.full(count, NEVER)
    freed[: old.size][start.block_state[old] == 2] = BEFORE
    gone = np.full(count, NEVER)
    segments = _segments(trace, start, pool, large_page_bytes)
    row = _rows(trace, subject, start.block_address[old], old.size)
    for what, when in ((FREE_REQUESTED, freed), (FREE_COMPLETED, gone)):
        events = np.flatnonzero(action == what)
        when[row[events]] = events
    return DeviceLives(
        block_address=np.concatenate([start.block_address[old], trace.address[allocs]]),
        block_bytes=np.concatenate([start.block_bytes[old], grown[allocs]]),
        block_requested_bytes=np.concatenate(
            [start.block_requested_bytes[old], trace.nbytes[allocs]]
        ),
        block_stack=np.concatenate([start.block_stack[old], trace.stack[allocs]]),
        block_born=np.concatenate([np.full(old.size, BEFORE), allocs]),
        block_freed=freed,
        block_gone=gone,
        segment_address=segments["address"],
        segment_bytes=segments["bytes"],
        segment_stream=segments["stream"],
        segment_pool=segments["pool"],
        segment_small=segments["small"] != 0,
        segment_expandable=segments["expandable"] != 0,
        segment_born=segments["born"],
        segment_gone=segments["gone"],
    )


def _rows(trace: DeviceTrace, subject: I64, old_address: I64, num_old: int) -> I64:
    """Return (events,) the row of the block that each event is about; -1 for other events."""
    action = trace.action
    row = np.full(action.size, -1, np.int64)
    of_block = np.flatnonzero(action <= FREE_COMPLETED)
    allocs = np.flatnonzero(action == ALLOC)
    row[allocs] = num_old + np.arange(allocs.size)
    # Numbers of allocations rise with the events; those below the first are of older blocks.
    first = int(subject[allocs[0]]) if allocs.size else NEVER
    number = subject[of_block]
    later = number >= first
    row[of_block[later]] = num_old + number[later] - first
    before = of_block[~later]
    row[before] = np.searchsorted(old_address, trace.address[before])
    return row


def _segments(
    trace: DeviceTrace, start: AllocatorMoment, pool: I64, large_page_bytes: int
) -> dict[str, I64]:
    """Return the columns of segments. O(segments) per event about one."""
    columns: dict[str, list[int]] = {
        name: [] for name in ("address", "bytes", "stream", "pool", "small", "expandable", "born",
                              "gone")
    }  # fmt: skip
    alive: list[tuple[int, int]] = []  # address and row, in order

    def begin(*values: int) -> None:
        for column, value in zip(columns.values(), (*values, NEVER), strict=True):
            column.append(int(value))
        insort(alive, (int(values[0]), len(columns["gone"]) - 1))

    for at in range(start.segment_address.size):
        begin(
            start.segment_address[at],
            start.segment_bytes[at],
            start.segment_stream[at],
            start.segment_pool[at],
            start.segment_small[at],
            start.segment_expandable[at],
            BEFORE,
        )
    action = trace.action
    allocs = np.flatnonzero(action == ALLOC)
    touched = np.flatnonzero((action >= SEGMENT_ALLOC) & (action <= SEGMENT_UNMAP))
    for event in touched.tolist():
        address, nbytes = int(trace.address[event]), int(trace.nbytes[event])
        if action[event] in (SEGMENT_ALLOC, SEGMENT_MAP):
            mapped = action[event] == SEGMENT_MAP
            small = nbytes % large_page_bytes != 0 if mapped else nbytes == SMALL_SEGMENT
            # The request that a new segment is for takes it at once: it is never seen free.
            after = int(np.searchsorted(allocs, event))
            taken = event if mapped or after == allocs.size else int(allocs[after])
            begin(address, nbytes, trace.stream[event], pool[event], small, mapped, taken)
        else:
            _end(columns, alive, begin, event, address, address + nbytes)
    return {name: np.array(column, np.int64) for name, column in columns.items()}


def _end(
    columns: dict[str, list[int]],
    alive: list[tuple[int, int]],
    begin: Callable[..., None],
    event: int,
    first: int,
    end: int,
) -> None:
    """End what lies in [first, end) at an event; what sticks out of it lives on by itself."""
    at = bisect_left(alive, (first, -1))
    if at and alive[at - 1][0] + columns["bytes"][alive[at - 1][1]] > first:
        at -= 1
    while at < len(alive) and alive[at][0] < end:
        address, row = alive.pop(at)
        columns["gone"][row] = event
        stop = address + columns["bytes"][row]
        kept = [columns[name][row] for name in ("stream", "pool", "small", "expandable")]
        if address < first:
            begin(address, first - address, *kept, event)
            at += 1
        if stop > end:
            begin(end, stop - end, *kept, event)
            at += 1
