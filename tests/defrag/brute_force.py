"""The fewest copies for a goal, by trying everything. For pools of a handful of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kvatlas.defrag.moves import Blocks

Flags = NDArray[np.bool_]

__all__ = ["fewest_for_end", "fewest_for_pages", "fewest_for_run", "fewest_for_table"]


def layouts(blocks: Blocks) -> Iterator[tuple[Flags, Flags]]:
    """Yield every (used, cached) that moving may lead to: pinned blocks as they are."""
    free = np.flatnonzero(~blocks.pinned).tolist()
    used_count = int(blocks.used[free].sum())
    cached_count = int(blocks.cached[free].sum())
    for taken in combinations(free, used_count):
        rest = [block for block in free if block not in taken]
        for kept in combinations(rest, cached_count):
            used, cached = blocks.used & blocks.pinned, blocks.cached & blocks.pinned
            used[list(taken)] = True
            cached[list(kept)] = True
            yield used, cached


def copies(blocks: Blocks, used: Flags, cached: Flags) -> int:
    """Return the copies that lead there: a content that comes to a place where none like it was."""
    return int((used & ~blocks.used).sum() + (cached & ~blocks.cached).sum())


def _fewest(counts: Iterable[int]) -> int | None:
    return min(counts, default=None)


def fewest_for_pages(blocks: Blocks, per_page: int, pages: int, keep_cached: bool) -> int | None:
    whole = blocks.used.size // per_page

    def free(occupied: Flags) -> int:
        return sum(
            not occupied[page * per_page : (page + 1) * per_page].any() for page in range(whole)
        )

    return _fewest(
        copies(blocks, used, cached)
        for used, cached in layouts(blocks)
        if free(used | cached if keep_cached else used) >= pages
    )


def fewest_for_run(blocks: Blocks, length: int, keep_cached: bool) -> int | None:
    def longest(occupied: Flags) -> int:
        best = run = 0
        for held in occupied.tolist():
            run = 0 if held else run + 1
            best = max(best, run)
        return best

    return _fewest(
        copies(blocks, used, cached)
        for used, cached in layouts(blocks)
        if longest(used | cached if keep_cached else used) >= length
    )


def fewest_for_end(blocks: Blocks, keep_cached: bool) -> int | None:
    """The fewest copies after which no movable occupied block has a free one before it."""

    def packed(occupied: Flags) -> bool:
        movable = np.flatnonzero(~blocks.pinned)
        held = occupied[movable]
        return bool((np.sort(~held) == ~held).all())

    return _fewest(
        copies(blocks, used, cached)
        for used, cached in layouts(blocks)
        if packed(used | cached if keep_cached else used)
    )


def fewest_for_table(blocks: Blocks, table: list[int]) -> int | None:
    """The fewest copies after which the table is a run: strangers in its window must leave."""
    size, length = blocks.used.size, len(table)
    best: list[int] = []
    for start in range(size - length + 1):
        window = list(range(start, start + length))
        moved = sum(block != place for block, place in zip(table, window, strict=True))
        strangers = [b for b in window if b not in table and not blocks.empty[b]]
        bad = any(blocks.pinned[b] for b in window if b not in table)
        bad |= any(
            blocks.pinned[block] and block != place
            for block, place in zip(table, window, strict=True)
        )
        bad |= any(
            blocks.pinned[place] and block != place
            for block, place in zip(table, window, strict=True)
        )
        if not bad:
            best.append(moved + len(strangers))
    return _fewest(best)
