"""`MemoryDefragmenter`: detect, plan, move, rewrite the books, verify, report.

Owns: the order of these, and its report. Leaves to others: plans (`goals`), books (`books`), bytes
(`kvatlas.storage`), whether it pays (`deciding`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.defrag.books import Books, Owner
from kvatlas.defrag.condition import Condition, condition_of, relabelled
from kvatlas.defrag.deciding import Costs, Decision, Prospect, should_defragment
from kvatlas.defrag.goals import Goal
from kvatlas.defrag.moves import I64
from kvatlas.defrag.outcome import Plan, Report
from kvatlas.errors import InputError, InvariantError

__all__ = ["MemoryDefragmenter", "Storage"]


class Storage(Protocol):
    """The bytes behind block ids; `kvatlas.storage.KVCacheMemoryPool` is one."""

    @property
    def bytes_per_block(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    def move(self, source_ids: Any, target_ids: Any) -> None:
        """Let every target hold what its source held before the call."""

    def digest(self, block_ids: Any) -> NDArray[np.uint64]:
        """Return (n,) numbers that tell the blocks' contents apart, once all moves are done."""
        ...


class MemoryDefragmenter:
    """Moves blocks to where they serve a goal, and nobody notices.

    Ref counts, block tables, the prefix cache, the free queue's order and the eviction policy name
    the same contents before and after, so all later decisions are what they would have been. The
    null block and blocks in flight stay: those of requests whose output is not in yet, and those
    that you name. A block that several requests share is copied once and all of them follow; cached
    content moves like any other.

    Ids that you keep yourself (slot mappings, tables on a device) must be asked for again, or
    translated with `Report.renamed`. Not between a lookup and the allocation that uses its hits.

    Args:
        owner: whose blocks.
        storage: the bytes, one or several pools of that many blocks; none to move the books only.
        in_flight: returns the ids of further blocks that must not move now.
        clock: seconds.

    Raises:
        InputError: an owner without a null block; storage of another number of blocks.
    """

    def __init__(
        self,
        owner: Owner,
        storage: Storage | Sequence[Storage] | None = None,
        in_flight: Callable[[], Iterable[int]] | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.books = Books(owner, in_flight)
        if storage is None:
            self._storages: tuple[Storage, ...] = ()
        else:
            self._storages = tuple(storage) if isinstance(storage, Sequence) else (storage,)
        for pool in self._storages:
            if pool.num_blocks != self.books.num_blocks:
                raise InputError(
                    "the storage has another number of blocks",
                    field="storage",
                    value=pool.num_blocks,
                    remedy=f"the pool has {self.books.num_blocks:,}",
                )
        self._clock = clock

    @property
    def bytes_per_block(self) -> int:
        """Bytes of a block in all storages; 0 without any."""
        return sum(pool.bytes_per_block for pool in self._storages)

    def detect(self) -> Condition:
        """Return how the pool lies now; O(N + table cells in use)."""
        return condition_of(self.books.snapshot())

    def plan(self, goal: Goal) -> Plan | None:
        """Return what would have to move for `goal`, None when it cannot be reached; O(N + ids).

        Nothing changes yet. A plan is for the present state: run it before anything else happens.

        Raises:
            InputError: a goal that makes no sense.
        """
        moves = goal.moves(self.books)
        if moves is None:
            return None
        before = self.detect()
        after = condition_of(relabelled(before.snapshot, moves.new_ids()))
        return Plan(goal, moves, self.bytes_per_block, before, after)

    def should_defragment(self, goal: Goal, costs: Costs) -> Decision:
        """Plan for `goal` and weigh what it brings against what copying costs; O(N + ids)."""
        plan = self.plan(goal)
        if plan is None:
            return Decision(False, 0.0, 0.0, "No: no moves bring that about.")
        return self.weigh(plan, costs)

    def weigh(self, plan: Plan, costs: Costs) -> Decision:
        """Weigh what a plan brings against what copying costs."""
        prospect = Prospect(plan.before, plan.after, plan.moves.count, plan.bytes)
        return should_defragment(prospect, costs)

    def defragment(self, goal: Goal) -> Report | None:
        """Plan and run; None when the goal cannot be reached."""
        plan = self.plan(goal)
        return None if plan is None else self.run(plan)

    def run(self, plan: Plan, *, verify: bool = True, costs: Costs | None = None) -> Report:
        """Carry a plan out and report it. O(N + bytes moved).

        Bytes first, then the books and the events. With `verify` every invariant of the owner is
        checked afterwards, the pool is compared with the plan's prediction, and each moved block's
        digest with the one it had: that reads every moved byte twice.

        Args:
            plan: made for the present state.
            verify: whether to check.
            costs: for the verdict whether it paid, with the seconds that it really took.

        Raises:
            InputError: the pool has changed since the plan was made, so that it would overwrite
                content or move what is in flight. Nothing has moved then.
            InvariantError: a check failed.
        """
        moves = plan.moves
        self._require_fresh(plan)
        verified_s = 0.0
        began = self._clock()
        digests = [pool.digest(moves.sources) for pool in self._storages] if verify else []
        verified_s += self._clock() - began
        began = self._clock()
        if moves.count:
            for pool in self._storages:
                pool.move(moves.sources, moves.targets)
        copied_s = self._clock() - began
        began = self._clock()
        self.books.record(moves)
        new_id = moves.new_ids()
        self.books.relabel(new_id)
        relabelled_s = self._clock() - began
        after = self.detect()
        began = self._clock()
        if verify:
            self._verify(plan, after, digests)
        verified_s += self._clock() - began
        paid = None
        if costs is not None:
            prospect = Prospect(plan.before, after, moves.count, plan.bytes)
            paid = should_defragment(prospect, costs, took_s=copied_s + relabelled_s)
        return Report(
            plan=plan,
            after=after,
            copied_s=copied_s,
            relabelled_s=relabelled_s,
            verified_s=verified_s if verify else None,
            new_id=new_id,
            paid=paid,
        )

    def _require_fresh(self, plan: Plan) -> None:
        blocks, moves = self.books.blocks(), plan.moves
        touched: I64 = np.concatenate((moves.sources, moves.targets))
        if not blocks.empty[moves.overwritten()].all() or blocks.pinned[touched].any():
            raise InputError(
                "the pool has changed since the plan was made", field="plan", remedy="plan again"
            )

    def _verify(self, plan: Plan, after: Condition, digests: list[NDArray[np.uint64]]) -> None:
        self.books.check()
        expected = relabelled(plan.before.snapshot, plan.moves.new_ids())
        if after.snapshot != expected:
            raise InvariantError("the pool is not what the plan has foreseen")
        for pool, known in zip(self._storages, digests, strict=True):
            if not np.array_equal(pool.digest(plan.moves.targets), known):
                raise InvariantError("a block's bytes are not what they were before it was moved")
