"""What defragmenting can be for: one class a goal.

Owns: the goals, their knobs and which plan serves them. Leaves to others: the plans themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kvatlas.defrag.books import Books
from kvatlas.defrag.compacting import plan_compaction, plan_sorted_compaction
from kvatlas.defrag.free_runs import plan_free_run
from kvatlas.defrag.moves import I64, Moves
from kvatlas.defrag.pages import plan_pages
from kvatlas.defrag.tables import plan_tables

__all__ = ["Compact", "ContiguousTables", "FreeRun", "Goal", "ReleasePages"]


class Goal(Protocol):
    """A wanted outcome."""

    def moves(self, books: Books) -> Moves | None:
        """Return the moves that bring it about, None when nothing can. Raises: InputError."""


@dataclass(frozen=True, slots=True)
class ReleasePages:
    """Free whole pages of `blocks_per_page` consecutive blocks, for a pool on huge pages or VMM.

    Attributes:
        blocks_per_page: blocks behind one page, such as 2 MiB over the bytes of a block.
        pages: free pages wanted in all; None for as many as possible.
        keep_cached: whether cached content that nobody owns holds a page, too. If not, it goes
            with the page: evict it before you give the page back.
    """

    blocks_per_page: int
    pages: int | None = None
    keep_cached: bool = False

    def moves(self, books: Books) -> Moves | None:
        """See `pages.plan_pages`."""
        return plan_pages(
            books.blocks(), self.blocks_per_page, self.pages, keep_cached=self.keep_cached
        )


@dataclass(frozen=True, slots=True)
class FreeRun:
    """Free `length` consecutive blocks; with `keep_cached` they are empty, too."""

    length: int
    keep_cached: bool = False

    def moves(self, books: Books) -> Moves | None:
        """See `free_runs.plan_free_run`."""
        return plan_free_run(books.blocks(), self.length, keep_cached=self.keep_cached)


@dataclass(frozen=True, slots=True)
class ContiguousTables:
    """Make block tables one run each, so that a transfer needs one descriptor.

    Attributes:
        requests: whose, by id (rows in a replay), in this order; None for everybody's, the most
            broken first. When broken tables hold more than half of the used blocks everything is
            laid out anew, table after table: nearly all blocks would move anyway.
    """

    requests: tuple[str | int, ...] | None = None

    def moves(self, books: Books) -> Moves | None:
        """See `tables.plan_tables`; tables with pinned blocks in the way stay as they are."""
        blocks = books.blocks()
        if self.requests is not None:
            tables = [table for request in self.requests for table in books.tables(request)]
            return plan_tables(blocks, tables)
        tables = sorted(books.all_tables(), key=_breaks, reverse=True)
        broken = [table for table in tables if _breaks(table)]
        held = np.zeros(blocks.used.size, bool)
        for table in broken:
            held[table] = True
        if 2 * np.count_nonzero(held) > np.count_nonzero(blocks.used):
            return plan_sorted_compaction(blocks, tables)
        return plan_tables(blocks, broken)


@dataclass(frozen=True, slots=True)
class Compact:
    """Move everything to the lowest ids, so that all free blocks are one run.

    Attributes:
        tables: lay block tables one after another, each in its order; copies nearly everything.
        keep_cached: pack cached content that nobody owns, too.
    """

    tables: bool = False
    keep_cached: bool = False

    def moves(self, books: Books) -> Moves | None:
        """See `compacting`."""
        if self.tables:
            return plan_sorted_compaction(
                books.blocks(), books.all_tables(), keep_cached=self.keep_cached
            )
        return plan_compaction(books.blocks(), keep_cached=self.keep_cached)


def _breaks(table: I64) -> int:
    """Return how often the next block does not follow."""
    return int(np.count_nonzero(np.diff(table) != 1))
