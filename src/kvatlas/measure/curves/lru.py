"""The whole LRU curve: hit blocks and tokens at every capacity, from one pass.

Owns: `LruCurve` and how pieces of reuse become ramps. Leaves to others: the pass (`reuse_runs`).

Why one pass is enough: LRU obeys the stack law (Mattson and others, 1970). Sort blocks by last use,
within one request the deepest as the oldest: a cache of C blocks holds the first C of them, so a
block is hit at every capacity from its place in that order on. A parent stands before its children,
so the cache never has a hole, and the hits of a request are a beginning of its path. The places in
one piece of reuse follow one another, so a piece is a ramp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves.hit_curve import HitCurve, checked_capacities
from kvatlas.measure.curves.reuse_runs import ReuseRuns

__all__ = ["LruCurve", "lru_curve"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LruCurve:
    """Hits of an LRU prefix cache at every capacity, over a window of the requests.

    Attributes:
        blocks: hit blocks by capacity; tokens are `tokens(capacity)`.
        queried_blocks, queried_tokens: what the window's requests looked up.
    """

    blocks: HitCurve
    queried_blocks: int
    queried_tokens: int
    _servable: HitCurve
    _block_size: int
    _odd_at: I64  # sorted places of last blocks that serve fewer tokens than a block has
    _odd_tokens: I64  # what they all together serve less, up to each place

    def tokens(self, capacity_blocks: NDArray[np.int64] | int) -> I64:
        """Return the hit prompt tokens at each capacity. O(log K) each. Raises: InputError."""
        capacity = checked_capacities(capacity_blocks)
        odd = np.searchsorted(self._odd_at, capacity, side="right")
        return np.asarray(self._servable(capacity) * self._block_size + self._odd_tokens[odd])

    @property
    def most_tokens(self) -> int:
        """Hit tokens without a limit of capacity: the ceiling of these requests."""
        return int(self.tokens(self.blocks.enough)[0])

    def capacity_for_tokens(self, hit_tokens: float) -> int | None:
        """Return the smallest capacity that serves `hit_tokens`, None when none does. O(log K)."""
        if hit_tokens > self.most_tokens:
            return None
        low, high = -1, self.blocks.enough
        while high - low > 1:
            middle = (low + high) // 2
            if self.tokens(middle)[0] >= hit_tokens:
                high = middle
            else:
                low = middle
        return high


def lru_curve(runs: ReuseRuns, start: int = 0, stop: int | None = None) -> LruCurve:
    """Return the curve of requests `start` to `stop`, the cache warm from those before. O(S log S).

    Args:
        runs: the pieces of reuse.
        start, stop: rows of the window, all of them by default.
    """
    paths = runs.paths
    stop = runs.num_requests if stop is None else min(stop, runs.num_requests)
    low, high = int(runs.offsets[start]), int(runs.offsets[stop])
    rows = runs.rows[low:high]
    first = runs.start[low:high].astype(np.int64)
    place = runs.newer[low:high] + first
    end = runs.end[low:high]

    def ramps(limit: NDArray[np.int32]) -> HitCurve:
        length = np.minimum(end, limit[rows]) - first
        kept = length > 0
        return HitCurve.of_ramps(place[kept], length[kept])

    odd_rows = np.flatnonzero(paths.last_block_tokens[start:stop]) + start
    whole = odd_rows[runs.seen[odd_rows] >= paths.prompt_blocks[odd_rows]]
    last = runs.offsets[whole + 1] - 1
    odd_at = runs.newer[last] + paths.prompt_blocks[whole]
    order = np.argsort(odd_at, kind="stable")
    odd_tokens = np.zeros(whole.size + 1, np.int64)
    odd_tokens[1:] = np.cumsum(paths.last_block_tokens[whole][order])
    window = slice(start, stop)
    return LruCurve(
        blocks=ramps(paths.prompt_blocks),
        queried_blocks=int(paths.prompt_blocks[window].sum(dtype=np.int64)),
        queried_tokens=int(paths.workload.prompt_tokens[window].sum(dtype=np.int64)),
        _servable=ramps(paths.servable),
        _block_size=paths.block_size,
        _odd_at=odd_at[order],
        _odd_tokens=odd_tokens,
    )
