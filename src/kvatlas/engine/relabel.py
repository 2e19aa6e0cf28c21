"""Other ids for the blocks: the same owners, contents and order under new names.

Owns: every array of the engine that holds block ids. Leaves to others: which block gets which id
and the bytes behind it (`kvatlas.defrag`), the eviction policy's arrays
(`kvatlas.eviction.relabel`).

Nothing that the engine decides depends on a block's id, so an engine whose blocks have other ids
goes on to decide the same, up to those ids: who is hit, evicted, admitted and preempted, and when.
The free queue keeps its order: where a block stood in it, its new id stands. The exceptions are
placements that choose victims by their ids (`kvatlas.placement`): they choose by the new ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.check import placeable
from kvatlas.engine.kernels.state import I64, NONE, NULL_BLOCK, Engine, Pool
from kvatlas.errors import InputError
from kvatlas.eviction.relabel import relabel_eviction
from kvatlas.placement.build import fill_placement
from kvatlas.tiers.relabel import relabel_tier

__all__ = ["relabel_engine", "relabel_pool"]

_LINKS = ("prev_free", "next_free", "dup_next", "dup_prev", "dup_last")


def relabel_pool(pool: Pool, new_id: I64) -> None:
    """Give every block b of `pool` the id `new_id[b]`; O(blocks + index slots), vectorised.

    For a bare pool; blocks that a request's table names go with `relabel_engine`.

    Args:
        pool: changed in place: blocks, free queue, index, duplicates, eviction policy, host tier,
            placement.
        new_id: (N,) a permutation of the ids that leaves the null block where it is.

    Raises:
        InputError: it is none.
    """
    num_blocks = pool.blocks.shape[0] - 1
    _require_permutation(new_id, num_blocks)
    # Links may be NONE (-1: the last entry) or the free queue's sentinel, position N.
    new_link = np.append(new_id, (num_blocks, NONE)).astype(np.int32)
    blocks = np.asarray(pool.blocks)
    blocks[new_id] = blocks[:num_blocks].copy()
    for name in _LINKS:
        links: NDArray[np.int32] = blocks[name]
        blocks[name] = new_link[links]
    pool.slots[:] = new_link[pool.slots]
    if pool.eviction is not None:
        relabel_eviction(pool.eviction, new_id)
    if pool.tier is not None:
        relabel_tier(pool.tier, new_id)
    if pool.placement is not None:
        fill_placement(pool.placement, placeable(pool))


def relabel_engine(engine: Engine, new_id: I64) -> None:
    """Give every block b of `engine` the id `new_id[b]`: `relabel_pool`, and all block tables.

    O(blocks + index slots + table cells in use), vectorised. Call it between steps, not between a
    lookup and the allocation that uses its hits. Ids that were given out before are the caller's
    to translate.

    Raises:
        InputError: `new_id` is no permutation, or moves the null block.
    """
    relabel_pool(engine.pool, new_id)
    short = new_id.astype(np.int32)
    # Not the running requests' slots: blocks also come back later than their requests finish.
    taken = np.ones(engine.free_slots.shape[0], bool)
    taken[engine.free_slots[: int(engine.queue.free_slots)]] = False
    for slot in np.flatnonzero(taken).tolist():
        for group, length in enumerate(engine.tables["length"][:, slot].tolist()):
            cells = engine.table[group, slot, :length]
            cells[:] = short[cells]


def _require_permutation(new_id: I64, num_blocks: int) -> None:
    if new_id.shape != (num_blocks,):
        raise InputError(
            "as many ids as blocks", field="new_id", value=new_id.shape, remedy=f"{num_blocks:,}"
        )
    seen = np.zeros(num_blocks, bool)
    if new_id.size and new_id.min() >= 0 and new_id.max() < num_blocks:
        seen[new_id] = True
    if not seen.all():
        raise InputError(
            "no permutation of the block ids", field="new_id", remedy="name each id exactly once"
        )
    if new_id[NULL_BLOCK] != NULL_BLOCK:
        raise InputError(
            "the null block stays where it is", field="new_id", value=int(new_id[NULL_BLOCK])
        )
