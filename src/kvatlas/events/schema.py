"""The event schema, version 1: what an event is, column by column. The product's second contract.

Owns: the events' names, their causes, the columns with their types and meaning, and the record
that is the same in memory. Leaves to others: writing rows (`_log_kernel`), files (`writer`,
`recording`), what rows mean for a pool (`state`).

One row is one event. An id is written once, in `blocks`, when a block enters a request's block
table (`allocated`, `touched`); later events name it by its place there: `count` blocks from
`position` on in the table of (`request`, `group`). So a prompt of a thousand blocks is a few rows
and one list, and the whole life of a block costs some ten bytes. Where `blocks` is given it counts,
whatever the event. Keys come as runs: block i of an event has the key `key + i * key_stride`.
Everything that does not apply to an event is null in a file, and `NONE` (0 for strides and spans)
in a record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.records import record_dtype

__all__ = [
    "CAUSES",
    "COLUMNS",
    "EVENT",
    "EVENTS",
    "SCHEMA_VERSION",
    "Column",
]

SCHEMA_VERSION = 1
"""Raised when a column goes or changes its meaning, or an event is added that changes the pool.

Columns may be added at any time, and readers pass over those they do not know."""

NONE = -1
"""No value: null in a file."""

EVENTS: dict[str, str] = {
    "arrived": "a request entered the waiting queue; `tokens`: its prompt. Cause `checkpoint`, "
    "here and elsewhere: it did not happen now, a live recording said what was true, to be "
    "read on from",
    "looked_up": "the prefix cache was asked for a request that is now admitted; `tokens`: tokens "
    "asked for, `computed_tokens`: tokens found (null: caching is off); cause `new` or `resumed`",
    "touched": "hit blocks (`blocks`) entered a table and got one owner more each, up to "
    "`ref_count`",
    "evicted": "free blocks lost their cached content, and which (`key`, `group`). Cause "
    "`allocation`: they are those that the next `allocated` event takes to `position` and on, for "
    "`request`; causes `explicit` (on demand) and `replaced` (another block took the key over, as "
    "nano-vLLM does): see `blocks`",
    "allocated": "free, empty blocks (`blocks`) entered a table; cause `prefill` or `decode`, or "
    "`checkpoint`",
    "cached": "blocks are full and can be hit from now on, under their keys",
    "admitted": "a request runs from now on, with `computed_tokens` of its `tokens` found in the "
    "cache; cause `new`, or `resumed` after a preemption, or `checkpoint`",
    "scheduled": "a chunk of a request's prompt (after a preemption: of all its tokens) is computed"
    " in this step; `tokens` in the chunk, `computed_tokens` after it",
    "freed": "blocks lost an owner each, `ref_count` are left (0: they are free now); `position` "
    "falls by 1 from one to the next; cause `finished`, `preempted`, `skipped` (out of the "
    "attention window), `aborted`, `set_aside`, `released` or "
    "`checkpoint`",
    "preempted": "a running request lost its blocks and waits again; `other`: for whom, "
    "`computed_tokens`: thrown away",
    "finished": "a request is done; `tokens`: its prompt and output; cause `length`, `aborted` or "
    "`set_aside` (it can never be served), or `checkpoint` (it ended while nothing was recorded)",
    "allocation_failed": "slots were asked for and refused, in `count` consecutive steps; cause "
    "`admission`, `prefill` or `decode`; `other`: at admission, the first later request in the "
    "queue that would have fitted even without a hit; else, who was preempted",
    "reset": "the whole prefix cache was forgotten; `count`: blocks that were cached; cause "
    "`checkpoint`: by the reader only",
    "moved": "`blocks` were copied to as many blocks from `to_block` on, with owners and keys; the "
    "null block stands for a place beside the pool, through which blocks that change places go",
    "swapped_out": "blocks were copied to another tier (cause `host` or `disk`)",
    "swapped_in": "blocks were copied back from another tier (cause `host` or `disk`)",
    "step": "`count` consecutive steps of the scheduler that differ in nothing but time; `tokens` "
    "computed in each, `running`, `waiting`, `free_blocks` and `wasted_slots` after the first",
    "ended": "the recording was closed properly; cause `complete` or `interrupted`",
}
"""The events and what they say. Their order is the numbering of the records."""

_NAMES = list(EVENTS)
(
    ARRIVED,
    LOOKED_UP,
    TOUCHED,
    EVICTED,
    ALLOCATED,
    CACHED,
    ADMITTED,
    SCHEDULED,
    FREED,
    PREEMPTED,
    FINISHED,
    ALLOCATION_FAILED,
    RESET,
    MOVED,
    SWAPPED_OUT,
    SWAPPED_IN,
    STEP,
    ENDED,
) = range(len(_NAMES))

CAUSES: tuple[str, ...] = (
    "new",
    "resumed",
    "allocation",
    "explicit",
    "replaced",
    "prefill",
    "decode",
    "admission",
    "finished",
    "preempted",
    "skipped",
    "aborted",
    "set_aside",
    "released",
    "length",
    "host",
    "disk",
    "complete",
    "interrupted",
    "checkpoint",
)
"""Why it happened; the order is the numbering of the records."""

(
    BY_NEW,
    BY_RESUMED,
    BY_ALLOCATION,
    BY_EXPLICIT,
    BY_REPLACED,
    BY_PREFILL,
    BY_DECODE,
    BY_ADMISSION,
    BY_FINISHED,
    BY_PREEMPTED,
    BY_SKIPPED,
    BY_ABORTED,
    BY_SET_ASIDE,
    BY_RELEASED,
    BY_LENGTH,
    BY_HOST,
    BY_DISK,
    BY_COMPLETE,
    BY_INTERRUPTED,
    BY_CHECKPOINT,
) = range(len(CAUSES))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file.

    Attributes:
        name: the same in a file and in a record.
        type: Arrow's name of its type; `text` columns are dictionary-encoded names.
        absent: the value in a record that is null in a file.
        meaning: what it says, with its unit.
    """

    name: str
    type: str
    absent: int
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("event", "text", NONE, "what happened"),
    Column("cause", "text", NONE, "why"),
    Column("step", "int64", NONE, "the scheduler's step, from 1"),
    Column("time_ms", "float64", NONE, "the clock, milliseconds: at the start of the step for what "
           "it decides, at its end for its outcome"),
    Column("request", "int32", NONE, "the request's row, from 0 in order of arrival"),
    Column("session", "int32", NONE, "`arrived`: the session it belongs to"),
    Column("group", "int8", NONE, "the KV cache group"),
    Column("count", "int32", NONE, "how many blocks, or steps, or attempts"),
    Column("position", "int32", NONE, "index of the first block in the block table"),
    Column("key", "int64", NONE, "the first block's key: equal exactly when the whole prefix is"),
    Column("key_stride", "int8", 0, "from one block's key to the next one's: -1, 0 or 1"),
    Column("ref_count", "int32", NONE, "owners of each block after the event"),
    Column("tokens", "int64", NONE, "see the event"),
    Column("computed_tokens", "int64", NONE, "see the event; `allocated`: the request's computed "
           "tokens when this step is over"),
    Column("other", "int32", NONE, "another request that has to do with it; see the event"),
    Column("blocks_needed", "int32", NONE, "`allocation_failed`: free blocks that were asked for"),
    Column("free_blocks", "int32", NONE, "blocks that nobody owned, evictable ones included"),
    Column("running", "int32", NONE, "`step`: requests that hold blocks"),
    Column("waiting", "int32", NONE, "`step`: requests in the queue"),
    Column("wasted_slots", "int64", NONE, "`step`: allocated slots that hold no token, shared "
           "blocks counted once; from one of `count` steps to the next it falls by `tokens` in "
           "each group whose blocks are made of slots"),
    Column("span_ms", "float64", 0, "`step`: how long each of the steps takes"),
    Column("to_block", "int32", NONE, "`moved`: where the first block went"),
)  # fmt: skip
"""The columns in the file's order. Files have two more: `blocks`, a list of block ids (int32), and
`name`, the request's own id (text, where `arrived` has one)."""

_CODES = {"text": "i1", "int8": "i1", "int32": "i4", "int64": "i8", "float64": "f8"}

EVENT: np.dtype[np.void] = record_dtype(
    **{
        column.name: _CODES[column.type]
        # Large fields first, so that a record has no holes.
        for column in sorted(COLUMNS, key=lambda column: -np.dtype(_CODES[column.type]).itemsize)
    },
    blocks_at="i4",  # where its `blocks` begin in the chunk's ids, NONE without
)
"""A row in memory; `count` of the chunk's ids from `blocks_at` on are its `blocks`."""
