"""How many free blocks a request takes: what admission and allocation compare with the pool.

Owns: the count per KV cache group. Leaves to others: taking them (`tables`).
Mirrors `get_num_blocks_to_allocate` of the managers in v1/core/single_type_kv_cache_manager.py,
vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels.attention import cdiv, num_skipped_tokens
from kvatlas.engine.kernels.state import CROSS, MAMBA_ALIGN, MAMBA_NONE, NONE, NULL_BLOCK, Engine
from kvatlas.jit import inlined, kernel


@kernel
def blocks_to_allocate(
    engine: Engine,
    group: int,
    row: int,
    num_tokens: int,
    main_tokens: int,
    computed: int,
    with_hits: bool,
    admission: bool,
) -> int:
    """Return the free blocks that `group` takes to hold `num_tokens`.

    Hits that nobody owns count too: touching them takes them out of the free queue.
    """
    pool, groups, tables, requests = engine.pool, engine.groups, engine.tables, engine.requests
    kind = groups[group].kind
    block_size = groups[group].block_size
    slot = requests[row].slot
    held = 0
    tracked = False
    if slot != NONE:
        held = int(tables[group, slot].length)
        tracked = tables[group, slot].cached != NONE
    if kind == CROSS:
        return int(max(cdiv(requests[row].encoder, block_size) - held, 0))
    num_hits = int(engine.scratch[group].num_hits) if with_hits else 0

    if (kind == MAMBA_ALIGN or kind == MAMBA_NONE) and num_hits > 0:
        # A state that another request creates in this very step cannot be read yet: ask for more
        # than the pool has, and so wait for the next step.
        key = pool.blocks[engine.hits[group, num_hits - 1]].key
        for i in range(engine.scratch[group].num_step_keys):
            if engine.step_keys[group, i] == key:
                return int(engine.config.num_blocks + 1)

    if kind == MAMBA_ALIGN:
        # One running state: lookahead tokens have none, and skipped positions stay null.
        new_blocks = cdiv(main_tokens, block_size) - num_hits - held
        if new_blocks > 0:
            new_blocks = min(new_blocks, 1)
        return new_blocks + _unowned(engine, group, 0, num_hits)

    required = cdiv(num_tokens, block_size)
    cap = groups[group].admission_cap
    if admission and cap != NONE:
        required = min(required, cap)
    if tracked:
        return max(required - held, 0)
    skipped = num_skipped_tokens(groups, group, computed) // block_size
    new_blocks = max(required - max(skipped, num_hits + held), 0)
    return int(new_blocks + _unowned(engine, group, max(0, skipped - held), num_hits))


@inlined
def _unowned(engine: Engine, group: int, start: int, stop: int) -> int:
    """Count the hits in `[start, stop)` that sit in the free queue."""
    count = 0
    for i in range(start, stop):
        block = int(engine.hits[group, i])
        if block != NULL_BLOCK and engine.pool.blocks[block].ref_count == 0:
            count += 1
    return count
