"""The compiled loop of `life`: every block's birth, uses and end, in full and as vLLM samples them.

Owns: what each event says about a block's life. Leaves to others: the counts of other blocks used
in between (`_recency_kernel`), histograms (`_histogram_kernel`), what figures come of it (`life`).

The sampling mirrors the behaviour of `KVCacheMetricsCollector`, v1/core/kv_cache_metrics.py of vLLM
0.32.0, and of its callers in v1/core/block_pool.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure._histogram_kernel import Histograms, make_histograms, observe
from kvatlas.measure._recency_kernel import Recency, make_recency, use, used_since
from kvatlas.records import Record, Records, one_record, record_dtype, records

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

# The histograms: milliseconds, but for GAP_BLOCKS.
(
    LIFETIME,
    IDLE,
    LET_GO,
    GAP,
    GAP_BLOCKS,
    SAMPLED_LIFETIME,
    SAMPLED_IDLE,
    SAMPLED_GAP,
    NUM_HISTOGRAMS,
) = range(9)

HISTORY = 4
"""Hits that vLLM remembers of a sampled block: at most three gaps come of them."""
_MASK32 = 0xFFFFFFFF

BLOCK_LIFE = record_dtype(
    born_ms="f8",  # allocated; not a number when that was before the recording
    used_ms="f8",  # entered a table last; not a number before the first time
    let_go_ms="f8",  # its last owner left
    cached="i4",  # 1 while it has cached content
    sampled="i4",  # 1 while vLLM would watch it
    hits="i4",  # since it was sampled
)
LIFE_INFO = record_dtype(
    caching="i8",
    random="i8",  # state of the draws, never 0
    sampled_below="i8",  # sampled when a draw of 32 bits is below
    sampled="i8",
    allocated="i8",
    ended="i8",  # lives that ended in an eviction
    cut="i8",  # lives that a reset of the cache cut off
    unknown="i8",  # lives that ended, but began before the recording
    now_ms="f8",
)


class Lives(NamedTuple):
    """What is known of every block, and of the lives that are over."""

    blocks: Records  # (N,) BLOCK_LIFE
    history_ms: F64  # (N, HISTORY) hits of the sampled blocks, a ring each
    recency: Recency
    histograms: Histograms  # LIFETIME and so on
    info: Record  # LIFE_INFO


def make_lives(num_blocks: int, caching: bool, sample_rate: float, seed: int) -> Lives:
    """Return blocks that nothing is known of; 92 bytes per block, 32 of them when sampled."""
    blocks = records(num_blocks, BLOCK_LIFE)
    blocks["born_ms"][:] = blocks["used_ms"][:] = blocks["let_go_ms"][:] = math.nan
    return Lives(
        blocks,
        np.empty((num_blocks, HISTORY)),
        make_recency(num_blocks),
        make_histograms(NUM_HISTOGRAMS),
        one_record(
            LIFE_INFO,
            caching=int(caching),
            random=1 + (seed + 1) * 0x9E3779B1 % _MASK32,
            sampled_below=round(sample_rate * (_MASK32 + 1)),
        ),
    )


@entry
def follow_lives(lives: Lives, rows: Records, ids: I32) -> None:
    """Take in resolved rows; O(rows + ids), and O(600) per run of hits (`used_since`)."""
    info = lives.info
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if row.time_ms > info.now_ms:
            info.now_ms = row.time_ms
        if event == schema.ALLOCATED:
            _allocate(lives, ids, row.blocks_at, row.blocks_at + row.count)
        elif event == schema.TOUCHED:
            _touch(lives, ids, row.blocks_at, row.blocks_at + row.count)
        elif event == schema.CACHED:
            for i in range(row.blocks_at, row.blocks_at + row.count):
                lives.blocks[ids[i]].cached = 1
        elif event == schema.EVICTED:
            freed = row.cause == schema.BY_ALLOCATION
            _evict(lives, ids, row.blocks_at, row.blocks_at + row.count, freed)
        elif event == schema.FREED:
            if row.ref_count == 0:
                for i in range(row.blocks_at, row.blocks_at + row.count):
                    lives.blocks[ids[i]].let_go_ms = info.now_ms
        elif event == schema.MOVED:
            for i in range(row.count):
                _move(lives, ids[row.blocks_at + i], row.to_block + i)
        elif event == schema.RESET:
            _reset(lives)


@kernel
def _allocate(lives: Lives, ids: I32, start: int, stop: int) -> None:
    info, now = lives.info, lives.info.now_ms
    info.allocated += stop - start
    for i in range(start, stop):
        block = lives.blocks[ids[i]]
        if block.sampled != 0 and info.caching != 0:
            # vLLM reports the end of a sampled block whether or not it was ever cached.
            _end_sample(lives, ids[i])
        block.born_ms = now
        block.used_ms = now
        use(lives.recency, ids[i])
        if _drawn(info):
            block.sampled = 1
            block.hits = 0
            info.sampled += 1


@kernel
def _touch(lives: Lives, ids: I32, start: int, stop: int) -> None:
    """Count the gaps since the last use of each block.

    A prefix is used again in the order in which it was used before. The block that followed the one
    before has as many others between its uses: one less, itself, and one more, its forerunner.
    """
    now, stamps = lives.info.now_ms, lives.recency.stamps
    before = others = 0
    for i in range(start, stop):
        block = lives.blocks[ids[i]]
        stamp = stamps[ids[i]]
        if stamp != 0 and block.cached != 0:
            if before == 0 or stamp != before + 1:
                others = used_since(lives.recency, stamp)
            observe(lives.histograms, GAP, now - block.used_ms)
            observe(lives.histograms, GAP_BLOCKS, 1.0 * others)
            before = stamp
        else:
            before = 0
        block.used_ms = now
        top = lives.recency.info.top
        use(lives.recency, ids[i])
        if lives.recency.info.top != top + 1:
            before = 0  # the stamps were numbered afresh
        if block.sampled != 0:
            lives.history_ms[ids[i], block.hits % HISTORY] = now
            block.hits += 1


@kernel
def _evict(lives: Lives, ids: I32, start: int, stop: int, freed: bool) -> None:
    info, now = lives.info, lives.info.now_ms
    for i in range(start, stop):
        block = lives.blocks[ids[i]]
        if block.cached == 0:
            continue
        block.cached = 0
        info.ended += 1
        if block.born_ms == block.born_ms:
            observe(lives.histograms, LIFETIME, now - block.born_ms)
        else:
            info.unknown += 1
        if block.used_ms == block.used_ms:
            observe(lives.histograms, IDLE, now - block.used_ms)
        if freed and block.let_go_ms == block.let_go_ms:
            observe(lives.histograms, LET_GO, now - block.let_go_ms)
        if not freed and block.sampled != 0:
            _end_sample(lives, ids[i])


@kernel
def _end_sample(lives: Lives, at: int) -> None:
    """Report the end of a sampled block as vLLM does."""
    block, now = lives.blocks[at], lives.info.now_ms
    observe(lives.histograms, SAMPLED_LIFETIME, now - block.born_ms)
    observe(lives.histograms, SAMPLED_IDLE, now - block.used_ms)
    hits = block.hits
    first = hits - HISTORY + 1 if hits > HISTORY else 1
    for hit in range(first, hits):
        later = lives.history_ms[at, hit % HISTORY]
        observe(lives.histograms, SAMPLED_GAP, later - lives.history_ms[at, (hit - 1) % HISTORY])
    block.sampled = 0


@inlined
def _drawn(info: Record) -> bool:
    """Draw whether a block is sampled: Marsaglia's xorshift of 32 bits (J. Stat. Softw. 8, 14)."""
    draw = info.random
    draw ^= (draw << 13) & _MASK32
    draw ^= draw >> 17
    draw ^= (draw << 5) & _MASK32
    info.random = draw
    return bool(draw < info.sampled_below)


@kernel
def _move(lives: Lives, source: int, target: int) -> None:
    """Let a block's life go on under another id; the two change places.

    An empty block has a past, too: vLLM ends a sampled life when the block is allocated again.
    """
    old, new, stamps = lives.blocks[source], lives.blocks[target], lives.recency.stamps
    new.born_ms, old.born_ms = float(old.born_ms), float(new.born_ms)
    new.used_ms, old.used_ms = float(old.used_ms), float(new.used_ms)
    new.let_go_ms, old.let_go_ms = float(old.let_go_ms), float(new.let_go_ms)
    new.cached, old.cached = int(old.cached), int(new.cached)
    new.sampled, old.sampled = int(old.sampled), int(new.sampled)
    new.hits, old.hits = int(old.hits), int(new.hits)
    for hit in range(HISTORY):
        before = float(lives.history_ms[target, hit])
        lives.history_ms[target, hit] = lives.history_ms[source, hit]
        lives.history_ms[source, hit] = before
    here, there = stamps[source], stamps[target]
    stamps[source], stamps[target] = there, here
    if here != 0:
        lives.recency.owner[here] = target + 1
    if there != 0:
        lives.recency.owner[there] = source + 1


@kernel
def _reset(lives: Lives) -> None:
    """Every cached life is cut off; vLLM's collector forgets what it watched."""
    for at in range(lives.blocks.shape[0]):
        lives.info.cut += lives.blocks[at].cached
        lives.blocks[at].cached = 0
        lives.blocks[at].sampled = 0
