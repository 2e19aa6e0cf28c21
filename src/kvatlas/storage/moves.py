"""Which runs of blocks to copy, in an order that reads everything before it is overwritten.

Owns: checking ids, joining neighbours into runs, ordering moves. Leaves to others: copying
(`host`, `device`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.storage._copy_kernel import Runs
from kvatlas.storage._moves_kernel import (
    first_repeated,
    first_shared,
    join_runs,
    order_moves,
    staged_runs,
)

Ids = NDArray[np.int64]
IdsLike = Sequence[int] | NDArray[Any]


class Moves(NamedTuple):
    """n moves in an order that can go: chain after chain, cycles at the end.

    Attributes:
        sources, targets: (n,) ids.
        levels: (n,) how many moves of its chain go before each; those of one level are independent.
        cycle_sources, cycle_targets: the moves of cycles, one after the other; -1 is the stage.
    """

    sources: Ids
    targets: Ids
    levels: Ids
    cycle_sources: Ids
    cycle_targets: Ids

    @property
    def independent(self) -> bool:
        """Whether no move reads what another one overwrites."""
        return not len(self.cycle_sources) and not self.levels.any()

    def by_level(self) -> list[tuple[Ids, Ids]]:
        """Return sources and targets level by level, cycles left out."""
        order = np.argsort(self.levels, kind="stable")
        cuts = np.flatnonzero(np.diff(self.levels[order])) + 1
        parts = (np.split(ids[order], cuts) for ids in (self.sources, self.targets))
        return list(zip(*parts, strict=True))


class IdBook:
    """Checks ids of one pool. Memory: 16 bytes per block."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._marks = np.full((2, num_blocks), -1, np.int64)

    def check(self) -> bool:
        """Return whether the scratch arrays are clean."""
        return bool((self._marks == -1).all())

    def ids(self, block_ids: IdsLike, field: str, *, once: bool = False) -> Ids:
        """Return ids as a fresh int64 array (n,); with `once` none may come twice. O(n).

        Raises:
            InputError: not a list of integers, an id out of bounds, one that comes twice.
        """
        found = np.asarray(block_ids)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise InputError(
                "not a list of block ids", field=field, value=block_ids, remedy="give integers"
            )
        if found.size and not (found.min() >= 0 and found.max() < self.num_blocks):
            wrong = found[(found < 0) | (found >= self.num_blocks)][0]
            raise InputError(
                "no such block",
                field=field,
                value=int(wrong),
                remedy=f"ids run from 0 to {self.num_blocks - 1}",
            )
        ids = np.array(found, np.int64)
        if once:
            repeated = int(first_repeated(ids, self._marks[0]))
            if repeated >= 0:
                raise InputError("a block is named twice", field=field, value=int(ids[repeated]))
        return ids

    def disjoint(self, sources: Ids, targets: Ids) -> None:
        """Raise InputError when a block is both a source and a target. O(n)."""
        shared = int(first_shared(sources, targets, self._marks[0]))
        if shared >= 0:
            raise InputError(
                "a block is both source and target",
                field="target_ids",
                value=int(sources[shared]),
                remedy="use move, which reads everything before it writes",
            )

    def moves(self, sources: Ids, targets: Ids) -> Moves:
        """Order a partial permutation; moves of a block to itself are left out. O(n log n)."""
        kept = sources != targets
        sources, targets = sources[kept], targets[kept]
        level, chain, cycle = np.empty((3, len(sources)), np.int64)
        reads, writes = self._marks
        listed = int(order_moves(sources, targets, reads, writes, level, chain, cycle))
        chained = np.flatnonzero(level >= 0)
        order = chained[np.lexsort((level[chained], chain[chained]))]
        staged = np.empty((2, 2 * listed), np.int64)
        count = int(staged_runs(sources, targets, cycle, listed, *staged))
        return Moves(sources[order], targets[order], level[order], *staged[:, :count])


def same_length(sources: Ids, targets: Ids) -> None:
    """Raise InputError when there is not one target per source."""
    if len(sources) != len(targets):
        raise InputError(
            "one target per source is needed",
            field="target_ids",
            value=len(targets),
            remedy=f"there are {len(sources)} sources",
        )


def by_source(sources: Ids, targets: Ids) -> tuple[Ids, Ids]:
    """Return independent copies sorted by source, where that is not so already."""
    if len(sources) < 2 or (sources[1:] >= sources[:-1]).all():
        return sources, targets
    order = np.argsort(sources, kind="stable")
    return sources[order], targets[order]


def runs(sources: Ids, targets: Ids, *, levels: Ids | None = None, most: int = 2**62) -> Runs:
    """Join neighbours of one level into runs of at most `most` blocks. O(n)."""
    if levels is None:
        levels = np.zeros(len(sources), np.int64)
    found = np.empty((4, len(sources)), np.int64)
    count = int(join_runs(sources, targets, levels, most, *found))
    return Runs(*(np.ascontiguousarray(row[:count]) for row in found))


def ordered_runs(moves: Moves) -> Runs:
    """Return the runs of moves in an order that reads before it overwrites, one run at a time."""
    chains = runs(moves.sources, moves.targets, levels=moves.levels)
    ones = np.ones(len(moves.cycle_sources), np.int64)
    return Runs(
        np.append(chains.sources, moves.cycle_sources),
        np.append(chains.targets, moves.cycle_targets),
        np.append(chains.lengths, ones),
        np.append(chains.levels, ones),
    )
