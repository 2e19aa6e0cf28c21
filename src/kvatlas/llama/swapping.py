"""Blocks that lose their content go to a host tier, and come back instead of being computed again.

Owns: noticing what a step evicts, and which blocks of a prompt need no computing. Leaves to others:
the tier (`kvatlas.tiers.SwapManager`), and the scheduler, which knows nothing of it: it allocates
blocks for all tokens as if they were computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import Request, Scheduler
from kvatlas.engine.kernels.state import NONE


class Swap(Protocol):
    """A tier below the pool, by content; `kvatlas.tiers.SwapManager` is one."""

    def swap_out(self, keys: Sequence[int], block_ids: Sequence[int]) -> Any:
        """Keep copies of blocks under their keys, as far as there is room."""
        ...

    def lookup(self, keys: Sequence[int]) -> int:
        """Return how many leading keys are there."""
        ...

    def swap_in(self, keys: Sequence[int], block_ids: Sequence[int]) -> Any:
        """Copy what is kept under the keys into blocks."""
        ...


class Swapping:
    """One scheduler's way to a tier.

    Attributes:
        swapped_out, restored: blocks so far.
    """

    def __init__(self, swap: Swap, scheduler: Scheduler, block_size: int) -> None:
        self._swap, self._block_size = swap, block_size
        self._blocks = scheduler._engine.pool.blocks
        self.swapped_out = self.restored = 0

    def contents(self) -> NDArray[np.int64]:
        """Return the key of what each block holds now, to be compared after `schedule()`. O(N)."""
        keys: NDArray[np.int64] = self._blocks["key"].copy()
        return keys

    def lost(self, before: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Return (keys, blocks) of what was cached `before` and is not now. O(N).

        The bytes are there until the step is computed: scheduling writes no block.
        """
        blocks = np.flatnonzero((before != NONE) & (self._blocks["key"] != before))
        return before[blocks].tolist(), blocks.tolist()

    def save(self, lost: tuple[list[int], list[int]]) -> None:
        """Copy lost blocks out; before the step that overwrites them is computed."""
        keys, blocks = lost
        if keys:
            self._swap.swap_out(keys, blocks)
            self.swapped_out += len(keys)

    def restore(
        self, request: Request, start: int, end: int, block_ids: Sequence[int], *, sampling: bool
    ) -> int:
        """Fill leading blocks of tokens [start, end) from the tier; return the new start.

        Whole blocks only; where a token is sampled the last position is computed. O(blocks).
        """
        if start % self._block_size:
            return start
        first = start // self._block_size
        last = (end - 1 if sampling else end) // self._block_size
        keys = request.block_keys[first:last]
        found = self._swap.lookup(keys) if keys else 0
        if found:
            self._swap.swap_in(keys[:found], block_ids[first : first + found])
            self.restored += found
        return start + found * self._block_size
