"""How a pool lies at one moment, as far as moving blocks could help.

Owns: the figures that a plan changes, and the pool under other ids. Leaves to others: runs and
indices (`kvatlas.measure.fragmentation`), what they are worth (`deciding`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kvatlas.defrag.moves import I64
from kvatlas.defrag.pages import free_pages
from kvatlas.events import FragmentationSnapshot
from kvatlas.measure.fragmentation import BlockLayoutAnalyzer, Layout

__all__ = ["Condition", "condition_of", "relabelled"]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A pool at one moment.

    Attributes:
        snapshot: owners, content, block tables.
        layout: their runs, indices and pattern.
    """

    snapshot: FragmentationSnapshot
    layout: Layout

    @property
    def used_blocks(self) -> int:
        """Blocks that somebody owns."""
        return self.layout.used

    @property
    def cached_blocks(self) -> int:
        """Free blocks whose content can be hit."""
        return self.layout.evictable

    @property
    def empty_blocks(self) -> int:
        """Free blocks without content."""
        return self.layout.empty

    @property
    def free_runs(self) -> int:
        """Maximal runs of consecutive free blocks, cached ones included."""
        return self.layout.free.count

    @property
    def largest_free_run(self) -> int:
        """The longest of them, blocks."""
        return self.layout.free.largest

    @property
    def tables(self) -> int:
        """Block tables that hold blocks."""
        return int(np.count_nonzero(self.layout.tables.blocks))

    @property
    def table_runs(self) -> int:
        """Maximal runs in all block tables: descriptors, if each were transferred once."""
        return int(self.layout.tables.runs.sum())

    def free_pages(self, blocks_per_page: int, *, keep_cached: bool = False) -> int:
        """Return how many whole pages hold no used block (with `keep_cached` no content at all)."""
        occupied = self.snapshot.ref_count > 0
        if keep_cached:
            occupied = occupied | (self.snapshot.key >= 0)
        if self.snapshot.has_null:
            occupied[0] = True
        return int(np.count_nonzero(free_pages(occupied, blocks_per_page)))


def condition_of(snapshot: FragmentationSnapshot) -> Condition:
    """Return how the pool of a snapshot lies; O(N + ids)."""
    return Condition(snapshot, BlockLayoutAnalyzer(snapshot).layout())


def relabelled(snapshot: FragmentationSnapshot, new_id: I64) -> FragmentationSnapshot:
    """Return the snapshot with other ids: owners, content and tables follow. O(N + ids)."""
    ref_count, key = np.empty_like(snapshot.ref_count), np.empty_like(snapshot.key)
    ref_count[new_id], key[new_id] = snapshot.ref_count, snapshot.key
    cells = snapshot.table_blocks.copy()
    held = cells >= 0
    cells[held] = new_id[cells[held]]
    return replace(snapshot, ref_count=ref_count, key=key, table_blocks=cells)
