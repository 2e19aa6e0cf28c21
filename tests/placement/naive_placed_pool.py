"""Placements as anyone would write them first: sorted lists, every run looked at each time.

Written from the rules (not from the kernels): slow, obvious, and the judge of the fast ones.
"""

from __future__ import annotations

import math

from tests.engine.naive_pool import NaivePool

WINDOW_RATIO = 1.25


def runs_of(ids: list[int]) -> list[list[int]]:
    """Return the maximal runs of consecutive ids, by ascending first id."""
    runs: list[list[int]] = []
    for block in sorted(ids):
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def choose_window(queue: list[int], count: int) -> list[int]:
    """Take the longest runs among the oldest blocks, the last as small as it may be."""
    if count == 1:
        return queue[:1]
    runs = runs_of(queue[: math.ceil(WINDOW_RATIO * count)])
    taken: list[int] = []
    while len(taken) < count:
        left = count - len(taken)
        longest = max(len(run) for run in runs)
        wanted = longest
        if longest > left:
            wanted = min(len(run) for run in runs if len(run) >= left)
        run = next(run for run in runs if len(run) == wanted)
        runs.remove(run)
        taken += run[:left]
    return taken


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
                return choose_window(self.free, count)
        return self.free[:count]

    def evict(self, block: int) -> None:
        """Drop what `block` caches."""
        self.evictions += self.forget(block)
