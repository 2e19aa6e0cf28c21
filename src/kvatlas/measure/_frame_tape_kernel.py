"""The compiled writer of `frames`: a frame as a few numbers, the difference to the one before it.

Owns: the format's writing half. Leaves to others: compressing (`frames`), reading (`frame_codec`,
and the page's script).

A frame is written in two layers of runs, not along the block ids but owner by owner, each one's
blocks in the order of their keys. For a request's blocks share their fate, wherever they lie: they
come, stay and wait together, and go from the free queue side by side to the next request (vLLM
frees a request's last block first). In that order runs are long where ids are shuffled: the
conversation trace at 200,000 blocks takes a fifteenth of what it takes along the ids.

* Content (owner and key), in the order of what the cells held before: `skip` cells as in the frame
  before, then a run of `length` cells with one owner, whose keys go on by a stride. An owner is how
  much older it is than the newest one of the frame, its low byte in a stream of its own. A key is
  the difference to the key last written for the same owner.
* Condition (owners, since, next use), in the order of what the cells hold now: a run is as in the
  frame before, or as last written for the same owner, or written out.

Numbers are unsigned LEB128, signed ones in zigzag, each kind in a stream of its own. Keys that may
be any number are 8 bytes each, and do not count for the order: it stays as it is for each owner.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure._frames_kernel import NEVER
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U8 = NDArray[np.uint8]

STREAMS = (
    "skip", "length", "owner", "owner_high", "newest", "key", "code", "ref_count", "since",
    "next_use",
)  # fmt: skip
SKIP, LENGTH, OWNER, OWNER_HIGH, NEWEST, KEY, CODE, REF_COUNT, SINCE, NEXT_USE = range(len(STREAMS))
NO_KEY = 3
"""Where a run's stride is written, plus one: it has no keys."""
AS_BEFORE, AS_OWNER, SPELLED = range(3)
MOST_BYTES_PER_CELL = 10
FAR = 2
DIGIT = 11
"""Bits that one pass of the sort looks at."""

CONTEXT = record_dtype(key="i8", ref_count="i4", since="i4", next_use="i4")
LAST = record_dtype(since="i4", wide_keys="i4")


class Tape(NamedTuple):
    """What has been written."""

    streams: U8  # (10, room)
    used: I64  # (10,)
    contexts: Records  # (R + 1,) CONTEXT: what was last written for each owner; the last: nobody
    order: I32  # (N,) block ids by owner and key
    spare: I32  # (N,) working space
    counts: I64  # (2048,) working space
    last: Record  # LAST


@entry
def write_frame(tape: Tape, cells: Records, before: Records, uses: U16, tick: int) -> None:
    """Append the frame of `cells` at `tick` to the tape; O(N).

    Args:
        tape: with room for 10 bytes per cell and stream.
        cells: (N,) CELL now.
        before: (N,) CELL in the last frame; becomes this frame.
        uses: (N,) next uses in this frame.
        tick: of this frame.
    """
    for block in range(cells.shape[0]):
        cells[block].next_use = uses[block]
    _write_content(tape, cells, before)
    _sort(tape, cells)
    _write_condition(tape, cells, before, tick)
    for block in range(cells.shape[0]):
        old, new = before[block], cells[block]
        old.key, old.owner = new.key, new.owner
        old.ref_count, old.since, old.next_use = new.ref_count, new.since, new.next_use


@kernel
def _write_content(tape: Tape, cells: Records, before: Records) -> None:
    blocks, order = cells.shape[0], tape.order
    newest = NONE
    for block in range(blocks):
        newest = max(newest, cells[block].owner)
    _put(tape, NEWEST, newest + 1)
    at = written = 0
    while at < blocks:
        cell, old = cells[order[at]], before[order[at]]
        if cell.owner == old.owner and cell.key == old.key:
            at += 1
            continue
        stop, stride = at + 1, 0
        while stop < blocks and cells[order[stop]].owner == cell.owner:
            gap = _gap(cells[order[stop - 1]].key, cells[order[stop]].key)
            if (cells[order[stop]].key == NONE) != (cell.key == NONE) or gap == FAR:
                break
            if stop > at + 1 and gap != stride:
                break
            stride = gap
            stop += 1
        _put(tape, SKIP, at - written)
        _put(tape, LENGTH, 4 * (stop - at - 1) + (NO_KEY if cell.key == NONE else stride + 1))
        tape.streams[OWNER, tape.used[OWNER]] = (newest - cell.owner) & 255
        tape.used[OWNER] += 1
        _put(tape, OWNER_HIGH, (newest - cell.owner) >> 8)
        if cell.key != NONE and tape.last.wide_keys != 0:
            _put_whole(tape, KEY, cell.key)
        elif cell.key != NONE:
            context = tape.contexts[cell.owner]
            _put_signed(tape, KEY, cell.key - context.key)
            context.key = cells[order[stop - 1]].key
        at = written = stop
    if written < blocks:
        _put(tape, SKIP, blocks - written)


@kernel
def _sort(tape: Tape, cells: Records) -> None:
    """Sort the order by owner, key and id: a radix sort, O(N) per 11 bits of the largest."""
    largest_key = largest_owner = 0
    for block in range(cells.shape[0]):
        largest_owner = max(largest_owner, cells[block].owner + 1)
    if tape.last.wide_keys == 0:
        for block in range(cells.shape[0]):
            largest_key = max(largest_key, cells[block].key + 1)
            tape.order[block] = block
        shift = 0
        while largest_key >> shift > 0:
            _pass(tape, cells, True, shift)
            shift += DIGIT
    shift = 0
    while largest_owner >> shift > 0:
        _pass(tape, cells, False, shift)
        shift += DIGIT


@kernel
def _pass(tape: Tape, cells: Records, by_key: bool, shift: int) -> None:
    order, spare, counts = tape.order, tape.spare, tape.counts
    for digit in range(counts.shape[0]):
        counts[digit] = 0
    for block in order:
        cell = cells[block]
        counts[((cell.key if by_key else cell.owner) + 1 >> shift) & (1 << DIGIT) - 1] += 1
    total = 0
    for digit in range(counts.shape[0]):
        total += counts[digit]
        counts[digit] = total - counts[digit]
    for block in order:
        cell = cells[block]
        digit = ((cell.key if by_key else cell.owner) + 1 >> shift) & (1 << DIGIT) - 1
        spare[counts[digit]] = block
        counts[digit] += 1
    for at in range(order.shape[0]):
        order[at] = spare[at]


@kernel
def _write_condition(tape: Tape, cells: Records, before: Records, tick: int) -> None:
    blocks, order = cells.shape[0], tape.order
    at = 0
    while at < blocks:
        code, stop = SPELLED, at + 1
        cell, old = cells[order[at]], before[order[at]]
        context = tape.contexts[cell.owner]
        if _same(cell, old):
            code = AS_BEFORE
            while stop < blocks and _same(cells[order[stop]], before[order[stop]]):
                stop += 1
        elif _same(cell, context):
            code = AS_OWNER
            while (
                stop < blocks
                and not _same(cells[order[stop]], before[order[stop]])
                and _same(cells[order[stop]], tape.contexts[cells[order[stop]].owner])
            ):
                stop += 1
        else:
            while (
                stop < blocks
                and cells[order[stop]].owner == cell.owner
                and _same(cells[order[stop]], cell)
                and not _same(cells[order[stop]], before[order[stop]])
            ):
                stop += 1
            context.ref_count, context.since = cell.ref_count, cell.since
            context.next_use = cell.next_use
            _put(tape, REF_COUNT, cell.ref_count)
            _put_signed(tape, SINCE, cell.since - tape.last.since)
            tape.last.since = cell.since
            _put(tape, NEXT_USE, 0 if cell.next_use == NEVER else cell.next_use - tick)
        _put(tape, CODE, 3 * (stop - at - 1) + code)
        at = stop


@inlined
def _gap(key: int, following: int) -> int:
    """Return -1, 0 or 1 when keys are that close, else FAR; keys may be any numbers."""
    if (key < 0) != (following < 0):
        return FAR
    gap = int(following - key)
    return gap if -1 <= gap <= 1 else FAR


@inlined
def _same(cell: Record, other: Record) -> bool:
    """Say whether two conditions are equal; `other` is a cell or a context."""
    equal: bool = (
        cell.ref_count == other.ref_count
        and cell.since == other.since
        and cell.next_use == other.next_use
    )
    return equal


@inlined
def _put_signed(tape: Tape, stream: int, number: int) -> None:
    _put(tape, stream, 2 * number if number >= 0 else -2 * number - 1)


@inlined
def _put_whole(tape: Tape, stream: int, number: int) -> None:
    at = tape.used[stream]
    for byte in range(8):
        tape.streams[stream, at + byte] = (number >> (8 * byte)) & 255
    tape.used[stream] = at + 8


@inlined
def _put(tape: Tape, stream: int, number: int) -> None:
    at = tape.used[stream]
    while number >= 128:
        tape.streams[stream, at] = 128 | (number & 127)
        number >>= 7
        at += 1
    tape.streams[stream, at] = number
    tape.used[stream] = at + 1
