"""Arrays for an engine: sizes them, fills in the initial state.

Owns: the initial state of every array but the pool's (`build_pool`) and the groups'
(`build_groups`). Leaves to others: all later changes.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.build_groups import make_groups
from kvatlas.engine.build_pool import eviction_policy, make_pool, placement_of
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.pressure_state import LENGTH, LENGTH_BUCKETS, LIMBO, PRESSURE, Pressure
from kvatlas.engine.kernels.state import (
    ABSENT,
    CONFIG,
    ENTRY,
    I64,
    NONE,
    QUEUE_INFO,
    REQUEST,
    SCRATCH,
    STEP_INFO,
    TABLE,
    Engine,
    Step,
)
from kvatlas.engine.specs import FullAttentionSpec, MambaSpec
from kvatlas.events._log_kernel import Log
from kvatlas.records import Record, Records, one_record, records
from kvatlas.tiers._state_kernel import Tier
from kvatlas.tiers.build import make_store, make_tier


def make_requests(num_rows: int) -> Records:
    """Return `num_rows` absent requests."""
    requests = records(num_rows, REQUEST)
    requests["status"][:] = ABSENT
    requests["slot"][:] = NONE
    return requests


def make_step(config: EngineConfig) -> Step:
    """Return room for one step's decisions."""
    seqs = config.max_num_seqs
    return Step(
        entries=records(seqs, ENTRY),
        old_length=np.zeros((len(config.groups), seqs), np.int64),
        preempted=np.zeros(seqs, np.int64),
        info=one_record(STEP_INFO),
    )


def make_config(config: EngineConfig, tokens_per_id: int) -> Record:
    """Return the settings that kernels read."""
    hash_block = config.resolved_hash_block_size
    retention = config.prefix_cache_retention_interval
    aligned = [
        spec.block_size
        for spec in config.groups
        if isinstance(spec, MambaSpec) and spec.mamba_cache_mode == "align"
    ]
    return one_record(
        CONFIG,
        num_blocks=config.num_blocks,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=config.max_model_len,
        watermark_blocks=int(config.watermark * config.num_blocks),
        num_lookahead_tokens=config.num_lookahead_tokens,
        long_prefill_token_threshold=config.long_prefill_token_threshold,
        forget_uncomputed=int(config.forget_uncomputed),
        reserve_full_isl=int(config.scheduler_reserve_full_isl),
        priority_policy=int(config.policy == "priority"),
        async_scheduling=int(config.async_scheduling),
        mamba_align_split=aligned[0] if aligned else 0,
        hash_block=hash_block,
        scheduler_block=config.scheduler_block_size,
        retention=NONE if retention is None else retention,
        hybrid=int(len(config.groups) > 1),
        tokens_per_id=tokens_per_id,
        keys_per_id=max(1, tokens_per_id // hash_block),
    )


def make_pressure(config: EngineConfig, width: int) -> Pressure | None:
    """Return the state of the policies under pressure, None when all of them are off.

    `width` is that of a block table.
    """
    if not config.under_pressure:
        return None
    return Pressure(
        info=one_record(
            PRESSURE,
            lazy_steps=config.lazy_free_steps,
            protect=config.protect_waiting,
            ahead_blocks=config.preallocate_blocks,
            ahead_predicted=int(config.preallocate_predicted),
            growth=config.admission_growth,
        ),
        limbo=records(_limbo_places(config) or 1, LIMBO),
        watched=np.full(config.protect_waiting or 1, NONE, np.int64),
        wanted=np.full(config.protect_waiting or 1, NONE, np.int64),
        lengths=records(LENGTH_BUCKETS, LENGTH),
        fetched=np.zeros(width if config.protect_waiting and config.host_blocks else 1, np.int32),
    )


def _limbo_places(config: EngineConfig) -> int:
    """Return how many finished requests can keep their block tables at once."""
    return config.max_num_seqs if config.lazy_free_steps else 0


def make_engine(
    config: EngineConfig,
    requests: Records,
    ids: I64,
    tokens_per_id: int,
    longest_tokens: int,
    log: Log | None = None,
    num_keys: int | None = None,
    judged: bool = False,
    ms_per_token: float = 0.0,
    num_moves: int = 0,
) -> Engine:
    """Return an engine with an empty pool and nobody waiting.

    Args:
        config: the settings.
        requests: the rows; `prompt`, `max_tokens`, `priority`, `covered`, `id_start` and
            `unique_start` are filled in by the caller.
        ids: prefix-chained identities, one per `tokens_per_id` tokens.
        tokens_per_id: must divide or be a multiple of the hash block size.
        longest_tokens: the longest request's prompt and output, which sizes the block tables.
        log: where to write down what happens; nowhere by default.
        num_keys: keys are below this number; None when they may be any.
        judged: keep who cached each key first, which needs `num_keys`.
        ms_per_token: what computing a token again costs, where a host tier is weighed against it.
        num_moves: room in the list of a host tier's moves, 0 where nobody carries them out.
    """
    num_groups, seqs = len(config.groups), config.max_num_seqs
    tokens = min(longest_tokens + config.num_lookahead_tokens + 1, config.max_model_len + 1)
    encoder = int(requests["encoder"].max(initial=0))
    smallest = min(spec.block_size for spec in config.groups)
    width = -(-max(tokens, encoder) // smallest) + 1
    width += min(config.preallocate_blocks, config.num_blocks)
    slots = seqs + _limbo_places(config)
    step_keys = config.max_num_batched_tokens // smallest + 2 * seqs + 16
    groups, units = make_groups(config)
    tables = records((num_groups, slots), TABLE)
    tables["cached"][:] = NONE
    pool = make_pool(
        config.num_blocks,
        num_groups=num_groups,
        caching=config.enable_prefix_caching,
        prepend_unhashed=config.rule_set.prepend_unhashed,
        log=log,
        eviction=eviction_policy(config.eviction_policy),
        placement=placement_of(config.placement, config.eviction_policy),
        linked=tuple(isinstance(spec, FullAttentionSpec) for spec in config.groups),
        block_size=config.resolved_hash_block_size,
        num_keys=num_keys,
        num_requests=None if num_keys is None else requests.shape[0],
        tail_span=max(1, tokens_per_id // config.resolved_hash_block_size),
    )
    return Engine(
        pool=pool._replace(tier=_make_host_tier(config, width, num_keys, ms_per_token, num_moves)),
        config=make_config(config, tokens_per_id),
        groups=groups,
        units=units,
        table=np.empty((num_groups, slots, width), np.int32),
        tables=tables,
        requests=requests,
        ids=ids,
        waiting=np.zeros(requests.shape[0] + 1, np.int64),
        running=np.zeros(seqs + 1, np.int64),
        free_slots=np.arange(slots, dtype=np.int64)[::-1].copy(),
        queue=one_record(QUEUE_INFO, free_slots=slots),
        hits=np.zeros((num_groups, width), np.int32),
        keys=np.zeros(max(width, 64), np.int64),
        step_keys=np.zeros((num_groups, step_keys), np.int64),
        scratch=records(num_groups, SCRATCH),
        seen=np.zeros(max(1, (num_keys or 0) if judged else 1), np.int32),
        pressure=make_pressure(config, width),
    )


def _make_host_tier(
    config: EngineConfig, width: int, num_keys: int | None, ms_per_token: float, num_moves: int
) -> Tier | None:
    """Return the host tier that the settings ask for, None for none."""
    if config.host_blocks == 0:
        return None
    store = make_store(
        config.host_blocks,
        config.host_policy,
        block_size=config.resolved_hash_block_size,
        num_keys=num_keys,
    )
    write_back = config.host_write_back
    block_ms = config.resolved_hash_block_size * ms_per_token
    if config.swap == "auto" and config.host_ms_per_block > block_ms:
        write_back = "preempt"  # weighs costs, too: what is never brought back is not written
    return make_tier(
        store,
        write_back=write_back,
        swap=config.swap,
        ms_per_block=config.host_ms_per_block,
        ms_per_token=ms_per_token,
        num_blocks=config.num_blocks,
        width=width,
        num_moves=num_moves,
    )
