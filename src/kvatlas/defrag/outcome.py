"""What is going to be moved, and what was: `Plan` and `Report`.

Owns: the two results and their figures. Leaves to others: making them (`memory_defragmenter`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kvatlas.defrag.condition import Condition
from kvatlas.defrag.deciding import Decision
from kvatlas.defrag.goals import Goal
from kvatlas.defrag.moves import I64, Moves
from kvatlas.errors import InputError
from kvatlas.units import format_bytes

__all__ = ["Plan", "Report"]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What would move for a goal.

    Attributes:
        goal: what for.
        moves: which content goes where.
        bytes_per_block: of all storages, 0 without any.
        before, after: the pool now and, exactly, afterwards.
    """

    goal: Goal
    moves: Moves
    bytes_per_block: int
    before: Condition
    after: Condition

    @property
    def bytes(self) -> int:
        """Bytes that are copied."""
        return self.moves.count * self.bytes_per_block


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was moved, what it cost, what it brought.

    Attributes:
        plan: what was carried out; `plan.before` is how the pool lay.
        after: how it lies now.
        copied_s, relabelled_s: seconds for the bytes, and for the books and events.
        verified_s: seconds for the checks, None without them.
        new_id: (N,) what each block is called now.
        paid: whether it was worth the time it took, None when no costs were given.
    """

    plan: Plan
    after: Condition
    copied_s: float
    relabelled_s: float
    verified_s: float | None
    new_id: I64
    paid: Decision | None

    @property
    def moved_blocks(self) -> int:
        """Blocks that were copied."""
        return self.plan.moves.count

    @property
    def moved_bytes(self) -> int:
        """Bytes that were copied."""
        return self.plan.bytes

    @property
    def bandwidth(self) -> float | None:
        """Bytes moved per second, None when no bytes were."""
        return self.moved_bytes / self.copied_s if self.moved_bytes and self.copied_s > 0 else None

    def renamed(self, block_ids: Iterable[int]) -> list[int]:
        """Return what these blocks are called now. Raises: InputError for one that is not."""
        ids = np.fromiter(block_ids, np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.new_id.size):
            raise InputError("no such block", field="block_ids", value=ids.tolist())
        renamed: list[int] = self.new_id[ids].tolist()
        return renamed

    def released_pages(self, blocks_per_page: int, *, keep_cached: bool = False) -> int:
        """Return how many whole pages more than before hold no used block."""
        before, after = (
            condition.free_pages(blocks_per_page, keep_cached=keep_cached)
            for condition in (self.plan.before, self.after)
        )
        return after - before

    def __str__(self) -> str:
        before, after = self.plan.before, self.after
        bytes_moved = f" ({format_bytes(self.moved_bytes)})" if self.moved_bytes else ""
        text = (
            f"{self.moved_blocks:,} blocks{bytes_moved} moved in "
            f"{(self.copied_s + self.relabelled_s) * 1e3:.1f} ms; "
            f"runs in {after.tables:,} block tables {before.table_runs:,} -> {after.table_runs:,}; "
            f"free runs {before.free_runs:,} -> {after.free_runs:,}, the longest "
            f"{before.largest_free_run:,} -> {after.largest_free_run:,} blocks"
        )
        return text if self.paid is None else f"{text}. {self.paid.why}"
