"""Arrays for an engine: sizes them, fills in the initial state.

Owns: the initial state of every array. Leaves to others: all later changes.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.pressure_state import (
    LENGTH,
    LENGTH_BUCKETS,
    LIMBO,
    PRESSURE,
    Pressure,
)
from kvatlas.engine.kernels.state import (
    ABSENT,
    BLOCK,
    CHUNKED,
    CONFIG,
    CROSS,
    ENTRY,
    FULL,
    GROUP,
    I64,
    MAMBA_ALIGN,
    MAMBA_NONE,
    NONE,
    NULL_BLOCK,
    POOL_INFO,
    QUEUE_INFO,
    REQUEST,
    SCRATCH,
    SLIDING,
    STEP_INFO,
    TABLE,
    UNIT,
    Engine,
    Pool,
    Step,
)
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.events._log_kernel import Log, make_log
from kvatlas.eviction.build import make_eviction
from kvatlas.eviction.registry import EvictionPolicy, policy
from kvatlas.placement.build import make_placement
from kvatlas.placement.registry import PlacementPolicy, placement_policy
from kvatlas.records import Record, Records, one_record, records
from kvatlas.tiers._state_kernel import Tier
from kvatlas.tiers.build import make_store, make_tier

_PAGE_BITS = 5


def make_pool(
    num_blocks: int,
    *,
    num_groups: int = 1,
    caching: bool = True,
    prepend_unhashed: bool = True,
    log: Log | None = None,
    eviction: EvictionPolicy | None = None,
    placement: PlacementPolicy | None = None,
    linked: tuple[bool, ...] | None = None,
    block_size: int = 16,
    num_keys: int | None = None,
    num_requests: int | None = None,
    tail_span: int = 1,
) -> Pool:
    """Return a fresh pool: ids in order in the free queue, the null block taken out.

    A `placement` hands free blocks out in its own order. The rest is for an `eviction` policy: per
    group whether its blocks hang from each other (all do by default), the tokens of a block, below
    what number keys stay (None: any), how many requests will come at most, and by how many blocks a
    conversation's next turn shares.
    """
    num_slots = 1 << max(6, (2 * num_blocks - 1).bit_length()) if caching else 64
    blocks = records(num_blocks + 1, BLOCK)
    order = np.arange(num_blocks + 1)
    blocks.prev_free[:], blocks.next_free[:] = np.roll(order, 1), np.roll(order, -1)
    for name in ("key", "dup_next", "dup_prev", "dup_last"):
        blocks[name][:] = NONE
    first = blocks.next_free[NULL_BLOCK]
    blocks.next_free[num_blocks], blocks.prev_free[first] = first, num_blocks
    slots = np.full((num_groups, num_slots), NONE, np.int32)
    info = one_record(
        POOL_INFO,
        free=num_blocks - 1,
        page_bits=min(_PAGE_BITS, num_slots.bit_length() - 6),
        caching=int(caching),
        # A policy chooses among what is cached: empty blocks must come first.
        prepend_unhashed=int(prepend_unhashed or eviction is not None),
        has_null=1,
    )
    chooser = None
    if eviction is not None and caching:
        chooser = make_eviction(
            eviction,
            num_items=num_blocks,
            capacity=num_blocks - 1,
            block_size=block_size,
            num_contents=None if num_keys is None else num_keys * num_groups,
            num_requests=num_requests,
            tail_span=tail_span,
            linked=linked or (True,) * num_groups,
        )
    placer = None
    if placement is not None:
        placer = make_placement(placement, num_blocks, np.arange(num_blocks) != NULL_BLOCK)
    return Pool(
        blocks=blocks,
        slots=slots,
        info=info,
        log=log or make_log(),
        eviction=chooser,
        placement=placer,
    )


def eviction_policy(name: str) -> EvictionPolicy | None:
    """Return the policy of that name, None for `lru`, which is the free queue's own order."""
    return None if name == "lru" else policy(name)


def placement_of(name: str, eviction_policy: str) -> PlacementPolicy | None:
    """Return the placement of that name, None for `queue`, which is the free queue's own order."""
    return None if name == "queue" else placement_policy(name, eviction_policy)


def make_groups(config: EngineConfig) -> tuple[Records, Records]:
    """Return the groups' parameters and the lookup units (full attention first, then in order)."""
    specs = config.groups
    units: dict[KVCacheSpec, list[int]] = {}
    for group, spec in enumerate(specs):
        if not isinstance(spec, CrossAttentionSpec):
            units.setdefault(spec, []).append(group)
    ordered = sorted(units.items(), key=lambda unit: not isinstance(unit[0], FullAttentionSpec))
    groups, lookups = records(len(specs), GROUP), records(len(ordered), UNIT)
    for group, spec in enumerate(specs):
        cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
        groups[group].kind = _kind(spec)
        groups[group].block_size = spec.block_size
        groups[group].window = _window(spec)
        groups[group].admission_cap = NONE if cap is None else cap
    start = 0
    for unit, (spec, members) in enumerate(ordered):
        groups["member"][start : start + len(members)] = members
        lookups[unit].kind = _kind(spec)
        lookups[unit].start, lookups[unit].stop = start, start + len(members)
        start += len(members)
    return groups, lookups


def _kind(spec: KVCacheSpec) -> int:
    match spec:
        case FullAttentionSpec():
            return FULL
        case SlidingWindowSpec():
            return SLIDING
        case ChunkedLocalAttentionSpec():
            return CHUNKED
        case MambaSpec(mamba_cache_mode="align"):
            return MAMBA_ALIGN
        case MambaSpec():
            return MAMBA_NONE
        case CrossAttentionSpec():
            return CROSS
    raise InputError("unknown KV cache spec", field="kv_cache_groups", value=type(spec).__name__)


def _window(spec: KVCacheSpec) -> int:
    match spec:
        case SlidingWindowSpec(sliding_window=tokens):
            return tokens
        case ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            return tokens
    return 1


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
        write_back = "preempt"  # what is never brought back is not written: there, costs are weighed
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
