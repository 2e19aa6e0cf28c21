"""`PoolCalls`: the pool alone, driven by what a replay asked of its own, and timed.

Owns: the clock, and that the same calls give the same blocks. Leaves to others: the calls
(`kernels.pool_calls`), the replay that they come from.
"""

from __future__ import annotations

import time

import numpy as np

from kvatlas.engine.build_pool import make_pool, placement_of
from kvatlas.engine.check import check_pool
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.pool_calls import make_calls
from kvatlas.engine.kernels.state import NONE
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.errors import InputError, InvariantError
from kvatlas.events import Chunk, Header
from kvatlas.events.schema import ALLOCATED, EVENT, EVENTS

__all__ = ["PoolCalls"]


class PoolCalls:
    """Follows a replay's resolved events with a pool of its own: allocate, cache, touch, free.

    What is timed is the pool's whole work and nothing of the scheduler's, chunk by chunk, without
    the time to compile or to wait for a processor. Memory: that of the pool.

    Attributes:
        seconds: of processor time spent in the pool's calls so far.
        blocks: that were allocated; calls: allocations that gave them.

    Raises:
        InputError: an eviction policy, or KV cache groups that forget: their calls depend on more
            than the events say.
    """

    def __init__(self, config: EngineConfig, header: Header) -> None:
        if config.eviction_policy != "lru":
            raise InputError(
                "only the queue's own order can be followed",
                field="eviction_policy",
                value=config.eviction_policy,
                remedy="use lru",
            )
        for spec in config.groups:
            if not isinstance(spec, FullAttentionSpec):
                raise InputError(
                    "only groups that keep every block can be followed",
                    field="kv_cache_groups",
                    value=type(spec).__name__,
                    remedy="use full attention",
                )
        self.pool = make_pool(
            config.num_blocks,
            num_groups=len(config.groups),
            caching=config.enable_prefix_caching,
            prepend_unhashed=config.rule_set.prepend_unhashed,
            placement=placement_of(config.placement, config.eviction_policy),
        )
        tables = (max(1, header.num_requests), len(config.groups))
        self._last = np.full(tables, NONE, np.int32)
        self._room = np.zeros(header.max_table_blocks + 1, np.int32)
        self.seconds, self.blocks, self.calls = 0.0, 0, 0
        nothing = np.empty(0, EVENT).view(np.recarray)
        no_ids = np.empty(0, np.int32)
        make_calls(
            self.pool, nothing, no_ids, no_ids.copy(), self._last, self._room
        )  # compiled by now

    def feed(self, chunk: Chunk) -> None:
        """Make the calls of a resolved chunk.

        Raises: InvariantError when the pool gives other blocks than the replay's own did, or an
        event is no call of a replay.
        """
        rows = np.require(chunk.rows, requirements=("C", "W")).view(np.recarray)
        ids = np.require(chunk.ids, np.int32, ("C", "W"))
        got = ids.copy()
        began_s = time.thread_time()
        bad = make_calls(self.pool, rows, ids, got, self._last, self._room)
        self.seconds += time.thread_time() - began_s
        if bad != NONE:
            event = list(EVENTS)[int(chunk.rows["event"][bad])]
            raise InvariantError(f"a pool alone cannot follow the event {event!r}")
        if not np.array_equal(got, ids):
            raise InvariantError("the same calls gave other blocks than in the replay")
        allocated = chunk.rows["event"] == ALLOCATED
        self.calls += int(np.count_nonzero(allocated))
        self.blocks += int(chunk.rows["count"][allocated].sum(dtype=np.int64))

    def check(self) -> None:
        """Check every invariant of the pool; O(blocks). Raises InvariantError."""
        check_pool(self.pool)
