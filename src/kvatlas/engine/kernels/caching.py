"""What is cached: full blocks under their keys, thinned out for sliding windows and Mamba states.

Owns: which block is cached when. Leaves to others: the index itself (`prefix_index`).
Mirrors `cache_blocks` and `reachable_block_mask` of the managers in
v1/core/single_type_kv_cache_manager.py, vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels import evicting, prefix_index, recording, tiering
from kvatlas.engine.kernels.attention import cdiv
from kvatlas.engine.kernels.identity import fill_keys, key_at
from kvatlas.engine.kernels.state import (
    FULL,
    MAMBA_ALIGN,
    MAMBA_NONE,
    NONE,
    NULL_BLOCK,
    SLIDING,
    Engine,
)
from kvatlas.jit import inlined, kernel


@kernel
def cache_blocks(engine: Engine, row: int, num_tokens: int) -> None:
    """Cache the blocks that `num_tokens` tokens fill; O(blocks newly full) per group."""
    pool, groups, tables = engine.pool, engine.groups, engine.tables
    slot = engine.requests[row].slot
    if engine.config.hybrid != 0:
        num_tokens -= num_tokens % engine.config.scheduler_block
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        block_size = groups[group].block_size
        cached = max(0, tables[group, slot].cached)
        full = num_tokens // block_size
        if cached < full:
            fill_keys(engine, row, block_size, cached, full - cached)
            dense = kind == FULL or (kind != SLIDING and kind != MAMBA_ALIGN and kind != MAMBA_NONE)
            at = 0
            before = NONE - 1
            inserted = 0
            recorded = pool.log.info.on != 0
            noted = engine.seen.shape[0] > 1
            pool.log.info.request = row
            for i in range(cached, full):
                block = int(engine.table[group, slot, i])
                if block == NULL_BLOCK or not (dense or _kept(engine, group, row, i)):
                    continue
                key = engine.keys[i - cached]
                at = prefix_index.follow(pool, at, before, key)
                before = key
                prefix_index.insert(pool, group, key, block, at)
                evicting.inserted(pool, pool.eviction, engine.table[group, slot], i)
                tiering.cached(pool, pool.tier, engine.table[group, slot], i)
                inserted += 1
                if noted and engine.seen[key] == 0:
                    engine.seen[key] = row + 1
                if recorded and not dense:
                    recording.cachings(pool, group, engine.table[group, slot], i, i + 1)
                if kind == MAMBA_ALIGN or kind == MAMBA_NONE:
                    _note_step_key(engine, group, key)
            pool.info.cached += inserted
            pool.info.inserts += inserted
            if recorded and dense:
                recording.cachings(pool, group, engine.table[group, slot], cached, full)
            tables[group, slot].cached = full
        if kind == MAMBA_ALIGN:
            _cache_prompt_tail(engine, group, row, num_tokens)


@kernel
def _kept(engine: Engine, group: int, row: int, block: int) -> bool:
    """Say whether a sparse group caches table position `block` (`reachable_block_mask`).

    `retention` None keeps what a hit at any aligned length needs, 0 only what a replay of this
    prompt (or of its shared prefix) needs, r > 0 also one tail (or state) per r tokens.
    """
    groups = engine.groups
    kind = groups[group].kind
    block_size = groups[group].block_size
    align = engine.config.scheduler_block
    retention = engine.config.retention
    sliding = kind == SLIDING
    need = cdiv(groups[group].window - 1, block_size) if sliding else 1
    if retention == NONE and not sliding:
        return True
    segment = align if retention == NONE else retention
    if segment != 0:
        per_segment = segment // block_size
        if need >= per_segment or block % per_segment >= per_segment - need:
            return True
    if retention == NONE:
        return False
    for which in range(2):
        boundary = engine.requests[row].prompt - 1 if which == 0 else engine.requests[row].boundary
        if which == 1 and boundary == 0:
            break
        end = boundary // align * align // block_size
        if max(0, end - need) <= block < end:
            return True
    return False


@inlined
def _note_step_key(engine: Engine, group: int, key: int) -> None:
    count = engine.scratch[group].num_step_keys
    for i in range(count):
        if engine.step_keys[group, i] == key:
            return
    engine.step_keys[group, count] = key
    engine.scratch[group].num_step_keys = count + 1


@kernel
def _cache_prompt_tail(engine: Engine, group: int, row: int, num_tokens: int) -> None:
    """Register the state at the prompt's last hash boundary (`_cache_partial_tail_block`).

    Runs at every call while `num_tokens` stands at that boundary, and each time marks the state as
    made in this step, as vLLM does.
    """
    pool, groups, tables = engine.pool, engine.groups, engine.tables
    hash_block = engine.config.hash_block
    boundary = (engine.requests[row].prompt - 1) // hash_block * hash_block
    if num_tokens <= 0 or num_tokens != boundary:
        return
    slot = engine.requests[row].slot
    at = cdiv(num_tokens, groups[group].block_size) - 1
    if at >= tables[group, slot].length:
        return
    block = int(engine.table[group, slot, at])
    if block == NULL_BLOCK:
        return
    key = key_at(engine, row, num_tokens)
    if pool.blocks[block].key == NONE:
        prefix_index.insert(pool, group, key, block, prefix_index.home(pool, key))
        evicting.inserted(pool, pool.eviction, engine.table[group, slot], at)
        pool.info.cached += 1
        pool.info.inserts += 1
        if pool.log.info.on != 0:
            recording.cachings(pool, group, engine.table[group, slot], at, at + 1)
    _note_step_key(engine, group, key)


@kernel
def new_step_starts(engine: Engine) -> None:
    """Forget which states were made in the last step."""
    for group in range(engine.groups.shape[0]):
        engine.scratch[group].num_step_keys = 0
