"""The engine's state: arrays of records in NamedTuples that a kernel takes as one argument.

Owns: the names, shapes and dtypes of everything the engine changes. Leaves to others: the rules
that change it (`pool`, `manager`, `scheduler`) and its first state (`build`).

Records (NumPy structured dtypes), not one array per field: a block's ref count, links and key share
a cache line, and a kernel call passes a dozen arrays instead of seventy, which compiles eight times
sooner. `blocks["ref_count"]` is the column for NumPy code.

Sizes: N blocks in the pool, G KV cache groups, T index slots per group, R request rows, S running
requests at most, W blocks per block table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.events._log_kernel import Log
from kvatlas.eviction._state_kernel import Eviction
from kvatlas.placement._state_kernel import Placement
from kvatlas.records import Record, Records, record_dtype
from kvatlas.tiers._state_kernel import Tier

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

NONE = -1
"""No block, no slot, no key."""
NULL_BLOCK = 0
"""The null block: first pop of a fresh pool, as in vLLM; its ref count is not maintained."""

# KV cache group kinds.
FULL, SLIDING, CHUNKED, MAMBA_NONE, MAMBA_ALIGN, CROSS = range(6)

# Request status, in vLLM's order: everything after PREEMPTED is finished.
WAITING, RUNNING, PREEMPTED, FINISHED, REJECTED, ABSENT = range(6)

# How a scheduled entry came about.
RUN_KIND, NEW_KIND, RESUMED_KIND = range(3)


BLOCK = record_dtype(
    key="i8",  # the cached content's key, NONE without
    ref_count="i4",
    prev_free="i4",
    next_free="i4",
    dup_next="i4",  # blocks with the same key, chained in insertion order
    dup_prev="i4",
    dup_last="i4",  # valid at the first of a chain
    group="i4",  # the group under which it is cached
    slot="i4",  # its place in the index, valid at the first of a chain
)
POOL_INFO = record_dtype(
    free="i8",  # blocks in the free queue
    cached="i8",  # blocks that carry a key
    evictions="i8",
    inserts="i8",
    allocations="i8",
    page_bits="i8",  # the index keeps 2**page_bits consecutive keys side by side
    caching="i8",  # 1 when prefix caching is on
    prepend_unhashed="i8",  # 1 since vLLM PR #42656: unhashed blocks are freed to the head
    has_null="i8",  # 1 when block 0 is the null block (nano-vLLM has none)
)
GROUP = record_dtype(
    kind="i8",
    block_size="i8",  # tokens
    window="i8",  # sliding window or chunk, tokens
    admission_cap="i8",  # blocks per request that admission counts at most, NONE = no cap
    member="i8",  # groups ordered by lookup unit
)
UNIT = record_dtype(kind="i8", start="i8", stop="i8")  # members[start:stop] are looked up together
TABLE = record_dtype(
    length="i8",
    cached="i8",  # blocks considered cached; NONE = not tracked yet (vLLM: not in the dict)
    mamba_last="i8",  # index of the last state block, NONE
    mamba_retired="i8",
    mamba_allocated="i8",
)
REQUEST = record_dtype(
    id_start="i8",  # first identity in Identity.ids
    unique_start="i8",  # first key of the tokens that nobody else shares
    priority="i8",  # order key: smaller runs first; unique
    prompt="i8",  # tokens
    max_tokens="i8",
    num_tokens="i8",  # prompt + sampled
    computed="i8",  # num_computed_tokens
    covered="i8",  # leading tokens that Identity.ids identifies
    slot="i8",
    quiet_until="i8",  # total tokens up to which one more decoded token changes nothing
    placeholders="i8",  # num_output_placeholders (async scheduling)
    in_flight="i8",  # num_in_flight_tokens
    stale="i8",  # num_stale_output_tokens
    boundary="i8",  # shared_prefix_boundary
    preemptions="i8",
    lost="i8",  # computed tokens thrown away at the last preemption
    encoder="i8",  # encoder tokens (cross attention)
    status="i8",
)
SCRATCH = record_dtype(num_hits="i8", num_step_keys="i8")
CONFIG = record_dtype(
    num_blocks="i8",
    max_num_seqs="i8",
    max_num_batched_tokens="i8",
    max_model_len="i8",
    watermark_blocks="i8",
    num_lookahead_tokens="i8",
    long_prefill_token_threshold="i8",
    forget_uncomputed="i8",  # 1: a request that loses its turn takes its uncomputed keys along
    reserve_full_isl="i8",
    priority_policy="i8",
    async_scheduling="i8",
    mamba_align_split="i8",  # block size that Mamba prefill chunks end on, 0 = off
    hash_block="i8",  # tokens per key
    scheduler_block="i8",  # LCM of the block sizes; hits and cached prefixes are multiples of it
    retention="i8",  # prefix_cache_retention_interval in tokens, NONE = dense
    hybrid="i8",  # 1 with several groups
    tokens_per_id="i8",
    keys_per_id="i8",  # how many keys one identity spans
)
QUEUE_INFO = record_dtype(num_running="i8", num_waiting="i8", head="i8", free_slots="i8")
ENTRY = record_dtype(
    row="i8",
    tokens="i8",
    kind="i8",
    hit="i8",  # num_computed_tokens at admission
    sampled="i8",  # 1 when this step completes the prefill or decodes
)
STEP_INFO = record_dtype(entries="i8", tokens="i8", preempted="i8", refused_row="i8")
TOTALS = record_dtype(
    admitted_new="i8",
    admitted_resumed="i8",
    preemptions="i8",
    queries="i8",  # prompt tokens looked up at first admissions
    hits="i8",
    preempted_queries="i8",  # the same at re-admissions
    preempted_hits="i8",
    finished="i8",
    failed_running="i8",  # allocate_slots that returned nothing
    failed_waiting="i8",
    recomputed_tokens="i8",  # computed, thrown away at a preemption, not restored from the cache
    missed="i8",  # prompt tokens not found at first admissions
    missed_cold="i8",  # of these: nobody had them cached before
    missed_capacity="i8",  # of these: somebody had; the rest was never asked for
    restored="i8",  # part of `hits`: brought back from the tier
    preempted_restored="i8",  # part of `preempted_hits`
)


class Pool(NamedTuple):
    """Blocks, free queue, prefix index: 40 bytes per block, 4 per index slot (2 to 4 a block).

    The free queue is a ring through the sentinel record at position N: its `next_free` is the head
    (popped first), its `prev_free` the tail.
    """

    blocks: Records  # (N + 1,) BLOCK
    slots: I32  # (G, T) the prefix index: the first block cached under a key, NONE = empty
    info: Record  # POOL_INFO
    log: Log  # what happened, while somebody listens
    eviction: Eviction | None  # the policy that chooses what is evicted, None for the queue's order
    placement: Placement | None  # which free blocks are handed out, None for the queue's order
    tier: Tier | None = None  # where blocks go that leave the device, None for nowhere


class Engine(NamedTuple):
    """Everything one simulated engine owns."""

    pool: Pool
    config: Record  # CONFIG
    groups: Records  # (G,) GROUP
    units: Records  # (lookup units,) UNIT
    table: I32  # (G, S, W) block tables
    tables: Records  # (G, S) TABLE: what is known of each block table
    requests: Records  # (R,) REQUEST
    ids: I64  # (M,) prefix-chained identities
    waiting: I64  # (R + 1,) FCFS: a ring of rows; priority: a binary heap of rows
    running: I64  # (S + 1,) rows in running order
    free_slots: I64  # (S,) stack
    queue: Record  # QUEUE_INFO
    hits: I32  # (G, W) what the last lookup found
    keys: I64  # (W,) working space
    step_keys: I64  # (G, K) keys that Mamba groups cached in this step
    scratch: Records  # (G,) SCRATCH
    seen: I32  # (K,) per key, 1 + the row that cached it first, 0 for none; (1,) when not kept
    pressure: Pressure | None = None  # what vLLM does not do when memory is short, None for nothing


class Step(NamedTuple):
    """What the last schedule() decided, in vLLM's order (running first, then admissions)."""

    entries: Records  # (S,) ENTRY
    old_length: I64  # (G, S) block table length before this step
    preempted: I64  # (S,) rows preempted in this step
    info: Record  # STEP_INFO
