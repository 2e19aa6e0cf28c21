"""Bytes per block: the pool's own state, the prefix index, the block tables."""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.engine import EngineConfig, Replay
from kvatlas.workload import generate


@dataclass(frozen=True)
class Bytes:
    """One pool size; bytes of arrays, divided by the blocks they describe."""

    num_blocks: int
    pool_per_block: float
    index_per_block: float
    tables_total: int


def bytes_per_block(num_blocks: int) -> Bytes:
    """Build an engine and add up its arrays."""
    workload = generate("conversation", seed=0, num_requests=10)
    engine = Replay(workload, EngineConfig(num_blocks=num_blocks)).engine
    return Bytes(
        num_blocks=num_blocks,
        pool_per_block=engine.pool.blocks.nbytes / num_blocks,
        index_per_block=engine.pool.slots.nbytes / num_blocks,
        tables_total=engine.table.nbytes,
    )
