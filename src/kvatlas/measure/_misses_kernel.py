"""The compiled loop of `misses`: why each missed prompt token was missed.

Owns: what was cached when, per key, and the verdict on each block of a request at its first
admission. Leaves to others: the words (`misses`), numbers for keys (`_keys_kernel`).

Time is counted in lookups: what happens after the n-th lookup of the stream and before the next one
happens at time n, so it was before lookup number j exactly when n < j.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure._keys_kernel import KeyIndex, number_of
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]

KEY_HISTORY = record_dtype(
    first="i4",  # when it was cached for the first time, plus one; 0: never
    first_by="i4",  # the lookup of the request that did it
    since="i4",  # when it was cached last while no block had it
    gone="i4",  # when the last block that had it was lost, plus one; 0: never
    holders="i4",  # blocks that have it now
)
ADMISSION = record_dtype(
    lookup="i8",  # number of its first lookup, from 1; 0: none yet
    latest="i8",  # number of its last lookup
    tokens="i8",  # of its prompt
    hit="i8",  # tokens found at first
    judged="i8",  # blocks before this position have a verdict, or were hit
    cold="i4",  # the last verdict was cold
    reached="i4",  # so far the group had every block: several groups only
    open="i4",  # some of its missed tokens have no verdict yet
)
VERDICTS = record_dtype(
    lookups="i8",  # of all requests, so far: the time
    group="i8",  # whose blocks are judged
    block_size="i8",
    step="i8",  # hits end at multiples of this many tokens
    several="i8",  # 1 with several groups
    requests="i8",  # first admissions
    missed="i8",  # all that follows is in tokens
    cold="i8",
    capacity="i8",
    granularity="i8",
    configuration="i8",
    in_flight="i8",  # part of cold
    stranded="i8",  # part of capacity
)


class Judge(NamedTuple):
    """What has to be known for a verdict."""

    keys: Records  # (K,) KEY_HISTORY
    numbers: KeyIndex
    admissions: Records  # (R,) ADMISSION
    content: I32  # (N,) the number of each block's key, plus one; 0: none
    verdicts: Record  # VERDICTS


@entry
def judge_rows(judge: Judge, rows: Records, ids: I32) -> None:
    """Take in resolved rows; O(rows + ids)."""
    verdicts = judge.verdicts
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if event == schema.LOOKED_UP:
            verdicts.lookups += 1
            _look_up(judge, row)
        elif event == schema.FINISHED:
            _close(verdicts, judge.admissions[row.request])
        elif event == schema.RESET:
            for block in range(judge.content.shape[0]):
                _lose(judge, block)
        elif event == schema.MOVED:
            for i in range(row.count):
                source = ids[row.blocks_at + i]
                judge.content[row.to_block + i] = judge.content[source]
                judge.content[source] = 0
        elif row.blocks_at != NONE and row.group == verdicts.group:
            if event == schema.CACHED:
                _cache(judge, row, ids)
            elif event == schema.TOUCHED:
                _touch(judge, row, ids)
            elif event == schema.EVICTED:
                for i in range(row.blocks_at, row.blocks_at + row.count):
                    _lose(judge, ids[i])


@kernel
def _look_up(judge: Judge, row: Record) -> None:
    """Open a request's account at its first admission."""
    verdicts, admission = judge.verdicts, judge.admissions[row.request]
    admission.latest = verdicts.lookups
    if row.cause != schema.BY_NEW or row.tokens < 0:
        return
    verdicts.requests += 1
    block_size = verdicts.block_size
    if row.computed_tokens == NONE:
        verdicts.missed += row.tokens
        verdicts.configuration += row.tokens
        admission.open = 0
        return
    admission.lookup = verdicts.lookups
    admission.tokens = row.tokens
    admission.hit = row.computed_tokens
    admission.judged = row.computed_tokens // block_size
    admission.cold = 0
    admission.reached = verdicts.several
    admission.open = 1
    verdicts.missed += row.tokens - row.computed_tokens
    if admission.judged >= row.tokens // block_size:
        _close(verdicts, admission)


@inlined
def _close(verdicts: Record, admission: Record) -> None:
    """Decide on what no block's key can tell: the rest after the blocks that were asked for."""
    block_size = verdicts.block_size
    asked = (admission.tokens - 1) // verdicts.step * verdicts.step // block_size
    if admission.open == 0 or admission.judged < asked:
        return
    known = admission.judged * block_size
    rest = admission.tokens - (known if known > admission.hit else admission.hit)
    if admission.cold != 0:
        verdicts.cold += rest
    else:
        verdicts.granularity += rest
    admission.open = 0


@kernel
def _cache(judge: Judge, row: Record, ids: I32) -> None:
    """Judge the blocks of a `cached` row by their keys, then count them as cached."""
    now = judge.verdicts.lookups
    by = 0
    if row.request != NONE:
        by = judge.admissions[row.request].latest
    name = row.key
    for i in range(row.count):
        number = number_of(judge.numbers, name)
        name += row.key_stride
        if row.request != NONE:
            _judge(judge, judge.admissions[row.request], row.position + i, number)
        block = ids[row.blocks_at + i]
        _lose(judge, block)
        judge.content[block] = number + 1
        key = judge.keys[number]
        if key.first == 0:
            key.first = now + 1
            key.first_by = by
        if key.holders == 0:
            key.since = now
        key.holders += 1


@kernel
def _touch(judge: Judge, row: Record, ids: I32) -> None:
    """Judge the blocks that a request found at a later admission: they have their keys still."""
    if row.request == NONE:
        return
    admission = judge.admissions[row.request]
    if admission.open == 0 or row.position + row.count <= admission.judged:
        return
    for i in range(row.count):
        content = judge.content[ids[row.blocks_at + i]]
        if content != 0:
            _judge(judge, admission, row.position + i, content - 1)


@inlined
def _judge(judge: Judge, admission: Record, position: int, number: int) -> None:
    """Say why the block at `position`, whose key is known at last, was not hit."""
    if admission.open == 0 or position < admission.judged:
        return
    verdicts, key = judge.verdicts, judge.keys[number]
    block_size, lookup = verdicts.block_size, admission.lookup
    full = admission.tokens // block_size
    if position >= full:
        return
    start = position * block_size
    tokens = start + block_size - (start if start > admission.hit else admission.hit)
    admission.cold = 0
    if key.first == 0 or key.first > lookup:
        verdicts.cold += tokens
        admission.cold = 1
        admission.reached = 0
        if key.first != 0 and key.first_by < lookup:
            verdicts.in_flight += tokens
    elif start + block_size > (admission.tokens - 1) // verdicts.step * verdicts.step:
        verdicts.granularity += tokens
    else:
        there = _cached_at(key, lookup)
        if there and admission.reached != 0:
            verdicts.configuration += tokens
        else:
            verdicts.capacity += tokens
            admission.reached = 0
            if there:
                verdicts.stranded += tokens
    admission.judged = position + 1
    if position + 1 == full:
        _close(verdicts, admission)


@inlined
def _cached_at(key: Record, lookup: int) -> bool:
    """Say whether a key was cached when lookup number `lookup` asked.

    Known are the last time it came and the last time it went. When both lie after the lookup, it
    must have come before the lookup in order to go, unless it came and went more often in between.
    """
    if key.holders > 0:
        return bool(key.since < lookup or key.gone > lookup)
    return bool(key.gone > lookup and key.since < lookup)


@inlined
def _lose(judge: Judge, block: int) -> None:
    content = judge.content[block]
    if content != 0:
        judge.content[block] = 0
        key = judge.keys[content - 1]
        key.holders -= 1
        if key.holders == 0:
            key.gone = judge.verdicts.lookups + 1
