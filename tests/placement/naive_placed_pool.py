"""Placements as anyone would write them first: sorted lists, every run looked at each time.

Written from the rules (not from the kernels): slow, obvious, and the judge of the fast ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.engine.naive_pool import NaivePool

WINDOW_RATIO, SHORT_BLOCKS = 1.25, 32
Search = Callable[[list[int], int], list[int]]


def runs_of(ids: list[int]) -> list[list[int]]:
    """Return the maximal runs of consecutive ids, by ascending first id."""
    runs: list[list[int]] = []
    for block in sorted(ids):
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def choose_window(queue: list[int], count: int, num_blocks: int) -> list[int]:
    """Leave the shortest runs of the window out, take the oldest of the others."""
    if count <= 1:
        return queue[:count]
    slack = min(num_blocks // 256, 15 * count)
    window = queue[: max(math.ceil(WINDOW_RATIO * count), count + slack)]
    surplus = len(window) - count
    for run in sorted(runs_of(window), key=len):
        if len(run) > min(surplus, SHORT_BLOCKS):
            break
        surplus -= len(run)
        window = [block for block in window if block not in run]
    return sorted(window[:count])


def first_fit(members: list[int], count: int) -> list[int]:
    """Return the piece at the lowest address that is long enough, else the longest, cut."""
    runs = runs_of(members)
    longest = max(len(run) for run in runs)
    return next(run for run in runs if len(run) >= min(count, longest))[:count]


def best_fit(members: list[int], count: int) -> list[int]:
    """Return the shortest piece that is long enough, else the longest, cut."""
    return best_fit_of(runs_of(members), count)


def buddy(members: list[int], count: int) -> list[int]:
    """Return the smallest aligned free piece that is large enough, else the largest, cut."""
    left = set(members)
    pieces: list[list[int]] = []
    for order in range(max(members).bit_length(), -1, -1):
        for first in range(0, max(members) + 1, 1 << order):
            piece = range(first, first + (1 << order))
            if left.issuperset(piece):
                pieces.append(list(piece))
                left.difference_update(piece)
    return best_fit_of(pieces, count)


def best_fit_of(pieces: list[list[int]], count: int) -> list[int]:
    """Return of `pieces` the smallest that is large enough, else the largest, the lowest first."""
    pieces.sort()
    fitting = [piece for piece in pieces if len(piece) >= count]
    return min(fitting, key=len)[:count] if fitting else max(pieces, key=len)


SEARCHES = {"first-fit": first_fit, "best-fit": best_fit, "buddy": buddy}


def choose_pieces(search: Search, members: list[int], count: int) -> list[int]:
    """Take piece after piece; sorted if there is more than one."""
    pieces: list[list[int]] = []
    while count > 0:
        piece = search(members, count)
        pieces.append(piece)
        members = [block for block in members if block not in piece]
        count -= len(piece)
    taken = [block for piece in pieces for block in piece]
    return taken if len(pieces) == 1 else sorted(taken)


class NaivePlacedPool(NaivePool):
    """The naive pool, whose free blocks are handed out by a placement."""

    def __init__(self, num_blocks: int, placement: str, *, caching: bool = True) -> None:
        super().__init__(num_blocks, caching=caching)
        self.placement = placement

    def get_new_blocks(self, count: int) -> list[int] | None:
        if count > len(self.free):
            return None
        taken = self.choose(count)
        for block in taken:
            self.free.remove(block)
            self.evictions += self.forget(block)
            self.owners[block] = 1
        return taken

    def choose(self, count: int) -> list[int]:
        """Return which blocks are taken, in order."""
        match self.placement:
            case "sorted":
                return sorted(self.free[:count])
            case "window":
                return choose_window(self.free, count, len(self.owners))
        bare = self.placement.removesuffix("-any")
        if bare not in SEARCHES:
            return self.free[:count]
        members = [b for b in self.free if bare != self.placement or b not in self.key_of]
        mine = min(count, len(members))
        taken = choose_pieces(SEARCHES[bare], members, mine)
        rest = [block for block in self.free if block not in taken][: count - mine]
        return sorted(taken + rest) if rest else taken

    def evict(self, block: int) -> None:
        """Drop what `block` caches."""
        self.evictions += self.forget(block)
