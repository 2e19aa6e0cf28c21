"""Freeing pages: groups of consecutive blocks that share a huge page or a VMM granule.

Owns: which pages to empty, and where their blocks go, with the fewest copies. Leaves to others:
giving the pages back.

Emptying k pages of P blocks needs k * P free blocks, whichever pages they are: each page that goes
takes its own free blocks away from those that its used blocks could move to.
"""

from __future__ import annotations

import numpy as np

from kvatlas.defrag.moves import I64, Blocks, Flags, Moves, complete
from kvatlas.errors import InputError

__all__ = ["free_pages", "plan_pages"]

_HALVINGS = 40


def free_pages(occupied: Flags, blocks_per_page: int) -> Flags:
    """Return (whole pages,) whether nothing in it is occupied; O(N)."""
    whole = occupied.size // blocks_per_page
    held = occupied[: whole * blocks_per_page].reshape(whole, blocks_per_page)
    return np.asarray(~held.any(axis=1))


def plan_pages(
    blocks: Blocks, blocks_per_page: int, pages: int | None = None, *, keep_cached: bool = False
) -> Moves | None:
    """Return the moves after which `pages` whole pages are free; None when that cannot be.

    The pages with the fewest used blocks are emptied. Blocks go to empty ones first, in the fullest
    pages; where only cached ones are left the two change places, which costs a second copy, so that
    pages full of cached content are then the cheaper ones to empty. O(N + pages log pages).

    With `keep_cached` the copies are the fewest possible. Without it, so are the copies of used
    blocks when empty ones suffice, and all copies when they do not; in between (some displaced, a
    choice of pages) at most one page's blocks more.

    Args:
        blocks: the pool.
        blocks_per_page: P; page i holds the blocks [i * P, (i + 1) * P).
        pages: free pages wanted, those that are free already included; None: as many as possible.
        keep_cached: cached content occupies a page, too. Otherwise it goes with the page.

    Raises:
        InputError: a page of no block, or fewer than no page.
    """
    if blocks_per_page < 1:
        raise InputError("must be at least 1", field="blocks_per_page", value=blocks_per_page)
    if pages is not None and pages < 0:
        raise InputError("must be at least 0", field="pages", value=pages)
    live = blocks.live(keep_cached)
    whole = live.size // blocks_per_page
    shape = (whole, blocks_per_page)
    can_go = ~blocks.pinned[: whole * blocks_per_page].reshape(shape).any(axis=1)
    most = min(int(np.count_nonzero(~live & ~blocks.pinned)) // blocks_per_page, int(can_go.sum()))
    wanted = most if pages is None else pages
    if wanted > most:
        return None
    occupied = live[: whole * blocks_per_page].reshape(shape).sum(axis=1)
    dead = ~live & ~blocks.pinned
    swapped = (blocks.cached & dead)[: whole * blocks_per_page].reshape(shape).sum(axis=1)
    empty = int(np.count_nonzero(blocks.empty & ~blocks.pinned))
    candidates = np.flatnonzero(can_go)
    chosen = candidates[
        _cheapest(
            occupied[candidates],
            swapped[candidates],
            wanted,
            wanted * blocks_per_page - empty,
        )
    ]
    goes = np.zeros(live.size, bool)
    goes[: whole * blocks_per_page].reshape(shape)[chosen] = True
    movers = np.flatnonzero(goes & live)
    fullness = np.zeros(-(-live.size // blocks_per_page), np.int64)
    fullness[:whole] = occupied
    rooms = np.flatnonzero(dead & ~goes)
    # Empty blocks first, then the fullest pages, then the lowest ids.
    order = np.lexsort((rooms, -fullness[rooms // blocks_per_page], ~blocks.empty[rooms]))
    return complete(blocks, movers, np.sort(rooms[order[: movers.size]]))


def _cheapest(occupied: I64, swapped: I64, count: int, short: int) -> I64:
    """Return `count` positions with the least sum(occupied) + max(0, short - sum(swapped)).

    `short` is how many of the blocks to be emptied no empty block can stand for; a cached block in
    a page that goes needs none. Lagrange: by occupied - weight * swapped for the right weight, and
    between the two answers at that weight one exchange after another.
    """

    def first(weight: float) -> I64:
        order = np.lexsort((occupied, occupied - weight * swapped))
        return order[:count].astype(np.int64)

    def lacks(chosen: I64) -> int:
        return short - int(swapped[chosen].sum())

    def copies(chosen: I64) -> int:
        return int(occupied[chosen].sum()) + max(0, lacks(chosen))

    plain = first(0.0)
    if lacks(plain) <= 0:
        return plain
    saving = first(1.0)
    if lacks(saving) >= 0:
        return saving
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        weight = (low + high) / 2
        tried = first(weight)
        if lacks(tried) > 0:
            low, plain = weight, tried
        else:
            high, saving = weight, tried
    best = min(plain, saving, key=copies)
    path = plain
    for out, into in zip(np.setdiff1d(plain, saving), np.setdiff1d(saving, plain), strict=True):
        path = np.append(path[path != out], into)
        best = min(best, path, key=copies)
    return best
