"""Arrays for a pool of blocks: sizes them, fills in the first state.

Owns: the first state of the pool, with the policies that its caller names. Leaves to others: the
rest of an engine (`build`), all later changes.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.kernels.state import BLOCK, NONE, NULL_BLOCK, POOL_INFO, Pool
from kvatlas.events._log_kernel import Log, make_log
from kvatlas.eviction.build import make_eviction
from kvatlas.eviction.registry import EvictionPolicy, policy
from kvatlas.placement.build import make_placement
from kvatlas.placement.registry import PlacementPolicy, placement_policy
from kvatlas.records import one_record, records

__all__ = ["eviction_policy", "make_pool", "placement_of"]

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
