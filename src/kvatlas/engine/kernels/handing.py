"""Handing out blocks that have left the free queue: what they cached is lost, they get an owner.

Owns: the books of an allocation whose blocks were chosen. Leaves to others: choosing them
(`evicting`, `placing`); the queue's own order takes a shorter way (`pool.get_new_blocks`).
"""

from __future__ import annotations

from kvatlas.engine.kernels import prefix_index, recording, tiering
from kvatlas.engine.kernels.state import I32, NONE, Pool
from kvatlas.jit import kernel


@kernel
def hand_out(pool: Pool, out: I32, start: int, count: int) -> None:
    """Give `out[start:start + count]`, taken from the queue, to their new owner; O(count)."""
    tiering.lost(pool, pool.tier, out, start, start + count)
    if pool.log.info.on != 0:
        recording.evictions(pool, out, start, count)
    evicted = 0
    for i in range(start, start + count):
        block = int(out[i])
        taken = pool.blocks[block]
        taken.ref_count = 1
        if taken.key != NONE:
            prefix_index.remove(pool, block)
            evicted += 1
    info = pool.info
    info.free -= count
    info.allocations += count
    info.cached -= evicted
    info.evictions += evicted
    if pool.log.info.on != 0:
        recording.allocations(pool, out, start, count)
