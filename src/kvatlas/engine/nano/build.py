"""Arrays for a simulated nano-vLLM: the engine's own, without a null block and with room to grow.

Owns: the initial state, and more slots when more sequences hold blocks than there were slots for.
Leaves to others: the dtypes (`engine.state`) and all other changes.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.build_pool import make_pool
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.state import ENTRY, TABLE, Engine, Pool, Step
from kvatlas.engine.nano.config import NanoConfig
from kvatlas.records import records

_FIRST_SLOTS = 256


def make_nano_pool(num_blocks: int) -> Pool:
    """Return a fresh pool: every id in order in the free queue, block 0 too."""
    pool = make_pool(num_blocks)
    order = np.arange(num_blocks + 1)
    pool.blocks["prev_free"][:] = np.roll(order, 1)
    pool.blocks["next_free"][:] = np.roll(order, -1)
    pool.info.free = num_blocks
    pool.info.has_null = 0
    return pool


def engine_config(config: NanoConfig, num_requests: int) -> EngineConfig:
    """Return the engine settings that have a counterpart: they lay out requests and size arrays.

    One block more stands for the null block that nano-vLLM lacks, so that the same requests never
    fit. nano-vLLM has no maximum model length: what outgrows the pool bounds the block tables.
    """
    return EngineConfig(
        num_blocks=config.num_blocks + 1,
        block_size=config.block_size,
        max_num_seqs=max(1, min(num_requests, _FIRST_SLOTS)),
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=min(2**31 - 1, (config.num_blocks + 1) * config.block_size),
    )


def adapt(engine: Engine, config: NanoConfig) -> Engine:
    """Return `engine` with nano-vLLM's pool and limits."""
    engine.config.num_blocks = config.num_blocks
    engine.config.max_num_seqs = config.max_num_seqs
    return engine._replace(pool=make_nano_pool(config.num_blocks))


def grow(engine: Engine, step: Step) -> tuple[Engine, Step]:
    """Return both with twice the slots and all contents; O(slots x blocks per table)."""
    groups, slots, width = engine.table.shape
    more = 2 * slots
    table = np.empty((groups, more, width), np.int32)
    table[:, :slots] = engine.table
    tables = records((groups, more), TABLE)
    tables[:, :slots] = engine.tables
    free = int(engine.queue.free_slots)
    free_slots = np.zeros(more, np.int64)
    free_slots[:slots] = np.arange(more - 1, slots - 1, -1)
    free_slots[slots : slots + free] = engine.free_slots[:free]
    engine.queue.free_slots = slots + free
    running = np.zeros(more + 1, np.int64)
    running[: slots + 1] = engine.running
    grown = engine._replace(table=table, tables=tables, free_slots=free_slots, running=running)
    entries = records(more, ENTRY)
    entries[:slots] = step.entries
    return grown, step._replace(
        entries=entries,
        old_length=np.zeros((groups, more), np.int64),
        preempted=np.zeros(more, np.int64),
    )
