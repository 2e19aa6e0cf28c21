"""Block tables: the slots of running requests, and the blocks that enter and leave them.

Owns: `Engine.table` and what is known of each table. Leaves to others: whether there is room
(`demand`) and what is cached (`caching`).
Mirrors `add_local_computed_blocks`, `allocate_new_blocks` and `remove_skipped_blocks` of the
managers in v1/core/single_type_kv_cache_manager.py, vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels import evicting, recording
from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels.attention import cdiv, num_skipped_tokens
from kvatlas.engine.kernels.state import CROSS, MAMBA_ALIGN, NONE, NULL_BLOCK, Engine
from kvatlas.events import schema
from kvatlas.jit import kernel


@kernel
def take_slot(engine: Engine, row: int) -> int:
    engine.queue.free_slots -= 1
    slot = int(engine.free_slots[engine.queue.free_slots])
    engine.requests[row].slot = slot
    engine.requests[row].quiet_until = 0
    for group in range(engine.groups.shape[0]):
        table = engine.tables[group, slot]
        table.length = 0
        table.cached = NONE
        table.mamba_last = NONE
        table.mamba_retired = 0
        table.mamba_allocated = 0
    return slot


@kernel
def release_slot(engine: Engine, row: int, slot: int) -> None:
    engine.requests[row].slot = NONE
    engine.free_slots[engine.queue.free_slots] = slot
    engine.queue.free_slots += 1


@kernel
def adopt_hits(engine: Engine, group: int, slot: int, computed: int) -> None:
    """Touch the hits and make them the start of the block table (`add_local_computed_blocks`)."""
    tables = engine.tables
    if engine.groups[group].kind == CROSS:
        return
    skipped = num_skipped_tokens(engine.groups, group, computed) // engine.groups[group].block_size
    skipped = max(skipped, 0)
    num_hits = int(engine.scratch[group].num_hits)
    for i in range(skipped):
        engine.table[group, slot, i] = NULL_BLOCK
    for i in range(skipped, num_hits):
        block = int(engine.hits[group, i])
        pool_.touch(engine.pool, block)
        engine.table[group, slot, i] = block
    pool = engine.pool
    evicting.found(pool, pool.eviction, engine.table[group, slot], num_hits, group)
    if engine.pool.log.info.on != 0:
        engine.pool.log.info.group = group
        recording.touches(engine.pool, engine.table[group, slot], skipped, num_hits)
    length = max(skipped, num_hits)
    tables[group, slot].length = length
    tables[group, slot].cached = length


@kernel
def allocate_new(engine: Engine, group: int, row: int, num_tokens: int, main_tokens: int) -> None:
    """Give `group` slots for `num_tokens` (`allocate_new_blocks`)."""
    groups, tables = engine.groups, engine.tables
    slot = engine.requests[row].slot
    kind = groups[group].kind
    block_size = groups[group].block_size
    length = int(tables[group, slot].length)
    engine.pool.log.info.group = group
    if kind == MAMBA_ALIGN:
        required = cdiv(main_tokens, block_size)
        if required > length:
            if tables[group, slot].mamba_allocated != 0 or length > 0:
                tables[group, slot].mamba_last = length - 1
            for i in range(length, required - 1):
                engine.table[group, slot, i] = NULL_BLOCK
            length = max(length, required - 1)
            pool_.get_new_blocks(engine.pool, 1, engine.table[group, slot], length)
            tables[group, slot].length = length + 1
        tables[group, slot].mamba_allocated = 1
        return
    if kind == CROSS:
        num_tokens = engine.requests[row].encoder
    required = cdiv(num_tokens, block_size)
    if required > length:
        pool_.get_new_blocks(engine.pool, required - length, engine.table[group, slot], length)
        tables[group, slot].length = required


@kernel
def remove_skipped(engine: Engine, row: int, processed: int) -> None:
    """Free what attention no longer reads and null it in the tables (`remove_skipped_blocks`)."""
    groups, tables = engine.groups, engine.tables
    slot = engine.requests[row].slot
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        block_size = groups[group].block_size
        length = int(tables[group, slot].length)
        skipped = num_skipped_tokens(groups, group, processed)
        if skipped > 0:
            last = min(skipped // block_size, length)
            if kind == MAMBA_ALIGN:
                first = int(tables[group, slot].mamba_retired)
                if first < last:
                    # Null gaps lie between the states: free_blocks passes over them.
                    _free_span(engine, group, slot, first, last)
                    tables[group, slot].mamba_retired = last
            else:
                first = last
                while first > 0 and engine.table[group, slot, first - 1] != NULL_BLOCK:
                    first -= 1
                _free_span(engine, group, slot, first, last)
        if kind == MAMBA_ALIGN:
            # The state of two steps ago has been copied forward by now.
            state = int(tables[group, slot].mamba_last)
            if (
                state != NONE
                and state < cdiv(processed, block_size) - 1
                and engine.table[group, slot, state] != NULL_BLOCK
            ):
                _free_span(engine, group, slot, state, state + 1)


@kernel
def _free_span(engine: Engine, group: int, slot: int, first: int, last: int) -> None:
    """Free table positions `[first, last)`, the last first, and null them."""
    table = engine.table[group, slot]
    engine.pool.log.info.group = group
    engine.pool.log.info.free_cause = schema.BY_SKIPPED
    pool_.free_blocks(engine.pool, table, last - 1, first - 1, -1)
    for i in range(first, last):
        table[i] = NULL_BLOCK
