"""Who is where, and who goes where: the planner's picture of a pool and its answer.

Owns: `Blocks`, `Moves`, and completing a wish (these blocks there) to moves that lose nothing.
Leaves to others: which wish (`pages`, `free_runs`, `tables`, `compacting`), carrying it out
(`memory_defragmenter`).

A *content* is what a used or a cached block holds; an empty block holds none. A move takes a
content from its block to another. What a content displaces goes where contents have left, so that
nothing cached is lost and every later hit is what it would have been.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.defrag._order_kernel import NONE, close_chains, order_moves
from kvatlas.errors import InvariantError

__all__ = ["Blocks", "Moves", "complete"]

Flags = NDArray[np.bool_]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """N blocks as a planner sees them.

    Attributes:
        used: (N,) somebody owns it, or it is pinned.
        cached: (N,) nobody owns it, and its content can be hit.
        pinned: (N,) it stays where it is: the null block, and what is in flight.
    """

    used: Flags
    cached: Flags
    pinned: Flags

    @property
    def empty(self) -> Flags:
        """(N,) nobody owns it and nothing is in it."""
        return ~(self.used | self.cached)

    def live(self, keep_cached: bool) -> Flags:
        """Return (N,) what counts as occupied: used blocks, cached ones too if they are kept."""
        return self.used | self.cached if keep_cached else self.used

    def relabelled(self, new_id: I64) -> Blocks:
        """Return the blocks under other ids; pins are places and stay."""
        used, cached = np.empty_like(self.used), np.empty_like(self.cached)
        used[new_id], cached[new_id] = self.used, self.cached
        return Blocks(used, cached, self.pinned)


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """A partial permutation: the content of `sources[i]` goes to `targets[i]`, all at once.

    Attributes:
        num_blocks: N.
        sources, targets: (M,) ids; a target that is no source is empty.
    """

    num_blocks: int
    sources: I64
    targets: I64

    @property
    def count(self) -> int:
        """Blocks that are copied."""
        return int(self.sources.size)

    def new_ids(self) -> I64:
        """Return (N,) the id that each block gets; empty blocks take the places that are left."""
        new_id = np.arange(self.num_blocks)
        new_id[self.sources] = self.targets
        close_chains(*self._both_ways(), new_id)
        return new_id

    def overwritten(self) -> I64:
        """Return the targets that are no sources, ascending: they must be empty. O(N)."""
        # Sets of NumPy hash: 50 times slower than flags on runs of consecutive ids.
        flags = np.zeros(self.num_blocks, bool)
        flags[self.targets] = True
        flags[self.sources] = False
        return np.flatnonzero(flags)

    def in_order(self) -> tuple[I64, I64]:
        """Return (sources, targets) one move after another, each into an empty block; O(N).

        Contents that change places in a circle go through block 0, which stands for a place beside
        the pool.
        """
        came_from, goes_to = self._both_ways()
        room = self.count + self.count // 2
        sources, targets = np.zeros(room, np.int64), np.zeros(room, np.int64)
        count = int(order_moves(came_from, goes_to, sources, targets))
        return sources[:count], targets[:count]

    def _both_ways(self) -> tuple[I64, I64]:
        """Return (N,) per block whose content comes to it, and where its own goes; or NONE."""
        came_from = np.full(self.num_blocks, NONE)
        goes_to = np.full(self.num_blocks, NONE)
        came_from[self.targets], goes_to[self.sources] = self.sources, self.targets
        return came_from, goes_to


def complete(blocks: Blocks, sources: I64, targets: I64) -> Moves:
    """Return the moves that take `sources` to `targets` and lose no content; O(N).

    What stands at a target and was not asked to move goes to a place that a source has left, in the
    order of ids. Sources that are at their targets already move nothing.

    Raises:
        InvariantError: the wish names a block twice, an empty source, or a pinned block.
    """
    away = sources != targets
    sources, targets = sources[away].astype(np.int64), targets[away].astype(np.int64)
    leaving, filled = np.zeros(blocks.used.size, bool), np.zeros(blocks.used.size, bool)
    leaving[sources], filled[targets] = True, True
    if leaving.sum() != sources.size or filled.sum() != targets.size:
        raise InvariantError("a plan moves a block twice")
    if (blocks.pinned & (leaving | filled)).any():
        raise InvariantError("a plan moves a pinned block")
    if blocks.empty[sources].any():
        raise InvariantError("a plan moves an empty block")
    displaced = np.flatnonzero(filled & ~leaving & ~blocks.empty)
    left = np.flatnonzero(leaving & ~filled)[: displaced.size]
    return Moves(
        num_blocks=int(blocks.used.size),
        sources=np.concatenate((sources, displaced)),
        targets=np.concatenate((targets, left)),
    )
