"""Whose blocks are moved: a pool, a manager, a scheduler or a replay, seen alike.

Owns: finding the arrays behind a public face, who is in flight, and what is written down when
blocks have moved. Leaves to others: which blocks move (`planning`), their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from kvatlas.defrag.moves import I64, Blocks, Moves
from kvatlas.engine.block_pool import BlockPool
from kvatlas.engine.check import check_engine, check_pool
from kvatlas.engine.kernels.state import NONE, NULL_BLOCK, Engine, Pool
from kvatlas.engine.kv_cache_manager import KVCacheManager
from kvatlas.engine.recorded import snapshot_of_engine
from kvatlas.engine.relabel import relabel_engine, relabel_pool
from kvatlas.engine.replay import Replay
from kvatlas.engine.scheduling import Scheduler
from kvatlas.errors import InputError
from kvatlas.events import FragmentationSnapshot
from kvatlas.events.moves import put_moves

__all__ = ["Books", "Owner"]

Owner = BlockPool | KVCacheManager | Scheduler | Replay
"""What owns blocks."""


class Books:
    """What an owner has written down about its blocks, and how all of it changes at once.

    Args:
        owner: the public face; of a `BlockPool` whoever holds block tables translates them.
        in_flight: returns the ids of further blocks that must not move now.

    Raises:
        InputError: an owner of another kind, or one without a null block (nano-vLLM).
    """

    def __init__(self, owner: Owner, in_flight: Callable[[], Iterable[int]] | None = None) -> None:
        if not isinstance(owner, Owner):
            raise InputError(
                "nothing that owns blocks",
                field="owner",
                value=type(owner).__name__,
                remedy="give a BlockPool, KVCacheManager, Scheduler or Replay",
            )
        self._owner, self._in_flight = owner, in_flight
        if self.pool.info.has_null == 0:
            raise InputError(
                "blocks of an engine without a null block cannot be moved",
                field="owner",
                value=type(owner).__name__,
                remedy="use the vLLM profile",
            )

    @property
    def engine(self) -> Engine | None:
        """The owner's engine; a bare pool has none."""
        match self._owner:
            case BlockPool():
                return None
            case Replay(engine=engine):
                return engine
            case owner:
                return owner.state

    @property
    def pool(self) -> Pool:
        """The owner's pool."""
        match self._owner:
            case BlockPool(state=pool):
                return pool
            case Replay(engine=engine):
                return engine.pool
            case owner:
                return owner.state.pool

    @property
    def num_blocks(self) -> int:
        """Blocks, the null block included."""
        return int(self.pool.blocks.shape[0]) - 1

    def snapshot(self) -> FragmentationSnapshot:
        """Freeze the pool and its block tables; O(blocks + table cells in use)."""
        engine = self.engine
        if engine is not None:
            return snapshot_of_engine(engine, 0, 0, 0.0)
        blocks, none = self.pool.blocks[: self.num_blocks], np.zeros(0, np.int32)
        return FragmentationSnapshot(
            event=0,
            step=0,
            time_s=0.0,
            has_null=True,
            ref_count=blocks["ref_count"].copy(),
            key=blocks["key"].copy(),
            table_request=none,
            table_group=none,
            table_offsets=np.zeros(1, np.int64),
            table_blocks=none,
        )

    def blocks(self) -> Blocks:
        """Return who is used, cached and pinned now; O(blocks)."""
        records = self.pool.blocks[: self.num_blocks]
        pinned = self.pinned()
        used = (records["ref_count"] > 0) | pinned
        return Blocks(used, (records["key"] != NONE) & ~used, pinned)

    def pinned(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return (N,) what must not move now.

        The null block, blocks of requests whose step's output is not in yet, those of finished
        requests that give them back later (a step may still write there), blocks on their way to or
        from a tier, and what `in_flight` names.

        Raises: InputError when that names a block that is not.
        """
        pinned = np.zeros(self.num_blocks, bool)
        pinned[NULL_BLOCK] = True
        engine = self.engine
        if engine is not None:
            busy = (engine.requests["in_flight"] > 0) & (engine.requests["slot"] != NONE)
            slots = engine.requests["slot"][busy].tolist() + self._left_slots(engine)
            for slot in slots:
                for table in self._tables(engine, slot):
                    pinned[table] = True
        tier = self.pool.tier
        if tier is not None:
            pinned[tier.moves[: int(tier.info.moves), 1]] = True
        if self._in_flight is not None:
            named = np.fromiter(self._in_flight(), np.int64)
            if named.size and not (named.min() >= 0 and named.max() < self.num_blocks):
                raise InputError(
                    "no such block", field="in_flight", value=named.tolist(),
                    remedy=f"ids run from 0 to {self.num_blocks - 1}",
                )  # fmt: skip
            pinned[named] = True
        return pinned

    def tables(self, request: str | int) -> list[I64]:
        """Return a request's block tables without null blocks, a group each; none if it holds none.

        Args:
            request: its id; its row in a replay.

        Raises:
            InputError: the owner is a bare pool.
        """
        match self._owner:
            case BlockPool():
                raise InputError(
                    "a bare pool knows no block tables",
                    field="owner",
                    remedy="give the manager or the scheduler that holds them",
                )
            case Replay(engine=engine):
                row = int(request)
                if not 0 <= row < engine.requests.shape[0]:
                    raise InputError("no such request", field="request", value=row)
                slot = int(engine.requests[row].slot)
                return [] if slot == NONE else self._tables(engine, slot)
            case owner:
                held = owner.get_block_ids(str(request))
        return [np.array([b for b in ids if b != NULL_BLOCK], np.int64) for ids in held]

    def all_tables(self) -> list[I64]:
        """Return the block tables of all requests that hold any, without null blocks.

        Not those of finished requests that give back later: those are `pinned`, so no plan is made
        for them.
        """
        engine = self.engine
        if engine is None:
            return []
        slots = engine.requests["slot"][engine.requests["slot"] != NONE].tolist()
        return [table for slot in slots for table in self._tables(engine, slot)]

    def relabel(self, new_id: I64) -> None:
        """Give every block its new id in everything that the owner holds; O(N), vectorised."""
        engine = self.engine
        if engine is None:
            relabel_pool(self.pool, new_id)
        else:
            relabel_engine(engine, new_id)

    def record(self, moves: Moves) -> None:
        """Tell whoever listens to the events; what finds no room is counted as lost there."""
        log = self.pool.log
        if log.info.on == 0 or moves.count == 0:
            return
        sources, targets = moves.in_order()
        if put_moves(log, sources, targets):
            return
        if isinstance(self._owner, Replay):
            self._owner.flush_events()
            if put_moves(log, sources, targets):
                return
        log.info.dropped += sources.size

    def check(self) -> None:
        """Check every invariant of the owner. Raises: InvariantError."""
        engine = self.engine
        if engine is None:
            check_pool(self.pool)
        else:
            check_engine(engine)

    @staticmethod
    def _left_slots(engine: Engine) -> list[int]:
        """Return the taken slots that are no request's any more: their blocks come back later."""
        left = np.ones(engine.free_slots.shape[0], bool)
        left[engine.free_slots[: int(engine.queue.free_slots)]] = False
        left[engine.requests["slot"][engine.requests["slot"] != NONE]] = False
        found: list[int] = np.flatnonzero(left).tolist()
        return found

    @staticmethod
    def _tables(engine: Engine, slot: int) -> list[I64]:
        lengths = engine.tables["length"][:, slot].tolist()
        tables = [engine.table[group, slot, :length] for group, length in enumerate(lengths)]
        return [table[table != NULL_BLOCK].astype(np.int64) for table in tables]
