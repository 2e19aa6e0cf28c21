"""The device's share of a budget: a block pool of which some blocks are parked.

Owns: parking and unparking blocks, whole pages of them where memory is given back by page. Leaves
to others: how many (`tuning`), moving blocks together (`kvatlas.defrag`).

A parked block is owned by nobody's request and holds nothing: its bytes may be unmapped and used
for something else. Where memory is mapped by pages of several blocks, only whole pages can be, and
shrinking first asks a `MemoryDefragmenter` to empty as many as are wanted.
"""

from __future__ import annotations

from collections.abc import Callable

from kvatlas.defrag import MemoryDefragmenter, ReleasePages
from kvatlas.engine import BlockPool
from kvatlas.errors import InputError

__all__ = ["DeviceBlocks"]


class DeviceBlocks:
    """A `BlockPool` of which `limit` blocks are in use and the rest is parked.

    Args:
        pool: fresh; block 0 is its null block.
        limit: blocks in use at first, the null block not counted.
        blocks_per_page: blocks that are mapped and unmapped together; page p is the blocks
            [p * blocks_per_page, (p + 1) * blocks_per_page).
        defragmenter: moves blocks in use together when pages are wanted; without one only the pages
            that are free by chance are parked.
        on_evict: called with the ids that are about to lose their content.
        on_renamed: called with a function from old to new ids after blocks were moved.

    Raises: InputError: a limit that cannot be, pages of less than a block.
    """

    def __init__(
        self,
        pool: BlockPool,
        limit: int,
        *,
        blocks_per_page: int = 1,
        defragmenter: MemoryDefragmenter | None = None,
        on_evict: Callable[[list[int]], None] | None = None,
        on_renamed: Callable[[Callable[[list[int]], list[int]]], None] | None = None,
    ) -> None:
        if blocks_per_page < 1:
            raise InputError("must be at least 1", field="blocks_per_page", value=blocks_per_page)
        self.pool, self.blocks_per_page = pool, blocks_per_page
        self._defragmenter, self._on_evict, self._on_renamed = defragmenter, on_evict, on_renamed
        self._parked: list[int] = []
        self.moved_blocks = 0
        self.set_limit(limit)

    @property
    def max_blocks(self) -> int:
        """Blocks that there are, the null block not counted."""
        return self.pool.num_gpu_blocks - 1

    @property
    def limit(self) -> int:
        """Blocks that are not parked, the null block not counted."""
        return self.max_blocks - len(self._parked)

    @property
    def parked(self) -> tuple[int, ...]:
        """Ids of the parked blocks: nothing reads or writes them."""
        return tuple(self._parked)

    def set_limit(self, blocks: int) -> int:
        """Park or unpark until `blocks` are left, or as near as it goes; return the limit now.

        Never parks what somebody owns: then the limit stays above, and the next call goes on. By
        whole pages it stays at or above `blocks`. O(blocks parked), with pages O(N) and the moves.

        Raises: InputError for a number that cannot be.
        """
        if not 1 <= blocks <= self.max_blocks:
            raise InputError(f"must be 1 to {self.max_blocks}", field="blocks", value=blocks)
        if self.limit > blocks:
            self._park(self.limit - blocks)
        elif self.limit < blocks:
            self._unpark(blocks - self.limit)
        return self.limit

    def _park(self, count: int) -> None:
        if self.blocks_per_page == 1:
            ids = self.pool.first_free_blocks(count)
        else:
            ids = self._free_pages(count // self.blocks_per_page)
        if self._on_evict is not None:
            self._on_evict(ids)
        self.pool.evict_blocks(ids)
        self.pool.touch(ids)
        self._parked += ids

    def _unpark(self, count: int) -> None:
        count -= count % self.blocks_per_page
        if count:
            ids = self._parked[-count:]
            del self._parked[-count:]
            self.pool.free_blocks(ids)

    def _free_pages(self, wanted: int) -> list[int]:
        """Return the blocks of at most `wanted` pages that nobody owns, after moving if need be."""
        if wanted and len(self._whole_pages()) < wanted and self._defragmenter is not None:
            for pages in (wanted, None):  # as many as wanted, else as many as there can be
                plan = self._defragmenter.plan(ReleasePages(self.blocks_per_page, pages))
                if plan is not None:
                    report = self._defragmenter.run(plan, verify=False)
                    self.moved_blocks += report.moved_blocks
                    if self._on_renamed is not None:
                        self._on_renamed(report.renamed)
                    break
        size = self.blocks_per_page
        return [
            block
            for page in self._whole_pages()[:wanted]
            for block in range(page * size, (page + 1) * size)
        ]

    def _whole_pages(self) -> list[int]:
        """Return the pages of free blocks, those whose content goes first at the front. O(N)."""
        size, last = self.blocks_per_page, {}
        counts: dict[int, int] = {}
        for place, block in enumerate(self.pool.get_all_free_blocks()):
            page = block // size
            counts[page] = counts.get(page, 0) + 1
            last[page] = place
        whole = [page for page, count in counts.items() if count == size]
        return sorted(whole, key=lambda page: last[page])
