"""What a trace says about capacity, asked once and answered at any capacity.

Owns: `CapacityStudy`, which puts curve, optimum, ceiling and content bound side by side, and whose
fault each missed token is. Leaves to others: advice (`kvatlas.plan.capacity`) and every view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves.capacities import knee
from kvatlas.measure.curves.content import seen_prompt_tokens
from kvatlas.measure.curves.lru import LruCurve, lru_curve
from kvatlas.measure.curves.optimum import Optimum
from kvatlas.measure.curves.paths import Paths, request_paths
from kvatlas.measure.curves.reuse_runs import ReuseRuns, reuse_runs
from kvatlas.workload import Workload

__all__ = ["CapacityStudy", "Ceiling", "CurveTable"]

I64 = NDArray[np.int64]
_THREADS = 2  # the kernel leaves the interpreter's lock; more threads only fight for memory


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Hits without a limit of capacity, over the requests from row `first_row` on."""

    first_row: int
    hit_blocks: int
    queried_blocks: int
    hit_tokens: int
    queried_tokens: int

    @property
    def block_hit_rate(self) -> float | None:
        """Hit blocks over queried ones; None where nothing was queried."""
        return self.hit_blocks / self.queried_blocks if self.queried_blocks else None

    @property
    def token_hit_rate(self) -> float | None:
        """Hit prompt tokens over queried ones; None where nothing was queried."""
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else None


@dataclass(frozen=True, slots=True, eq=False)
class CurveTable:
    """K capacities and what each gives: (K,) int64 columns, hits of LRU and of the optimum.

    Every queried prompt token is one of: hit by LRU; `policy` (the optimum at this capacity would
    have hit it); `capacity` (hit without a limit of capacity, not by the optimum); `granularity`
    (seen before, lost to whole blocks and to the last token, which is always computed); `cold`
    (never seen).
    """

    capacity_blocks: I64
    hit_blocks: I64
    hit_tokens: I64
    optimum_hit_blocks: I64
    optimum_hit_tokens: I64
    policy_tokens: I64
    capacity_tokens: I64
    granularity_tokens: int
    cold_tokens: int
    queried_blocks: int
    queried_tokens: int


class CapacityStudy:
    """Curve, optimum and bounds of one workload at one block size, in the prefix-only model.

    The pass over the trace is made here: O((N + S) log N), see `reuse_runs`.

    Args:
        workload, block_size, count_partial, with_outputs: see `request_paths`.
        on_progress, should_stop: see `reuse_runs`; a stopped study covers the requests walked.

    Raises: InputError as `request_paths` does.
    """

    def __init__(
        self,
        workload: Workload,
        block_size: int,
        *,
        count_partial: bool = False,
        with_outputs: bool = False,
        on_progress: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.workload = workload
        self.paths: Paths = request_paths(
            workload, block_size, count_partial=count_partial, with_outputs=with_outputs
        )
        self.runs: ReuseRuns = reuse_runs(
            self.paths, on_progress=on_progress, should_stop=should_stop
        )
        self.lru: LruCurve = lru_curve(self.runs)

    @cached_property
    def optimum(self) -> Optimum:
        """The optimum, ready for any capacity. O(S) once."""
        return Optimum(self.runs)

    @cached_property
    def knee_blocks(self) -> int:
        """The knee of the curve of hit blocks (`capacities.knee`)."""
        return knee(self.lru.blocks)

    @property
    def distinct_blocks(self) -> int:
        """Blocks of different content: what a cache that never evicts would hold. O(N)."""
        done = self.runs.num_requests
        held = self.paths.arrays.blocks[:done].sum(dtype=np.int64)
        return int(held - self.runs.seen.sum(dtype=np.int64))

    def ceiling(self, warm_up: float = 0.0) -> Ceiling:
        """Return the ceiling; the first `warm_up` (share) of the requests only fill the cache."""
        first_row = int(warm_up * self.runs.num_requests)
        curve = self.lru if first_row == 0 else lru_curve(self.runs, first_row)
        return Ceiling(
            first_row=first_row,
            hit_blocks=curve.blocks.most,
            queried_blocks=curve.queried_blocks,
            hit_tokens=curve.most_tokens,
            queried_tokens=curve.queried_tokens,
        )

    @cached_property
    def content_tokens(self) -> int:
        """Prompt tokens whose whole prefix some earlier request had; see `seen_prompt_tokens`."""
        return int(seen_prompt_tokens(self.paths)[: self.runs.num_requests].sum())

    def optimum_hits(
        self, capacities: Sequence[int] | I64, should_stop: Callable[[], bool] | None = None
    ) -> tuple[I64, I64]:
        """Return hit blocks and hit tokens (K,) of the optimum. O(S log N) per capacity."""
        paths, rows = self.paths, self.runs.num_requests
        prompt_blocks, servable = paths.prompt_blocks[:rows], paths.servable[:rows]
        last_block_tokens = paths.last_block_tokens[:rows]
        optimum = self.optimum

        def at(capacity: int) -> tuple[int, int]:
            found = optimum.hits(capacity, should_stop)
            blocks = int(np.minimum(found, prompt_blocks).sum(dtype=np.int64))
            served = np.minimum(found, servable).sum(dtype=np.int64) * paths.block_size
            odd = last_block_tokens[found >= prompt_blocks].sum(dtype=np.int64)
            return blocks, int(served + odd)

        with ThreadPoolExecutor(_THREADS) as pool:
            hits = list(pool.map(at, [int(capacity) for capacity in capacities]))
        both = np.array(hits, np.int64).reshape(-1, 2)
        return both[:, 0].copy(), both[:, 1].copy()

    def table(
        self, capacities: Sequence[int] | I64, should_stop: Callable[[], bool] | None = None
    ) -> CurveTable:
        """Return what each of `capacities` (blocks) gives. O(K S log N)."""
        capacity = np.asarray(capacities, np.int64)
        hit_tokens = self.lru.tokens(capacity)
        optimum_blocks, optimum_tokens = self.optimum_hits(capacity, should_stop)
        most = self.lru.most_tokens
        return CurveTable(
            capacity_blocks=capacity,
            hit_blocks=self.lru.blocks(capacity),
            hit_tokens=hit_tokens,
            optimum_hit_blocks=optimum_blocks,
            optimum_hit_tokens=optimum_tokens,
            policy_tokens=optimum_tokens - hit_tokens,
            capacity_tokens=most - optimum_tokens,
            granularity_tokens=self.content_tokens - most,
            cold_tokens=self.lru.queried_tokens - self.content_tokens,
            queried_blocks=self.lru.queried_blocks,
            queried_tokens=self.lru.queried_tokens,
        )
