"""A prefix cache alone under any policy: requests one after another, only their prompts.

Owns: a run over a workload, in slices. Leaves to others: the passes (`_leaf_run_kernel`,
`_queue_run_kernel`), and what running requests, answers and scheduling change (`kvatlas.engine`).

Every request looks up its path of blocks, hits those from the first up to the first that is not in
the cache, and leaves all of them there; then blocks are evicted until the capacity is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError, InvariantError
from kvatlas.eviction._leaf_run_kernel import run_by_leaf
from kvatlas.eviction._paths_kernel import NEVER, RUN, Cache, Paths, find_next_uses
from kvatlas.eviction._queue_run_kernel import run_queues
from kvatlas.eviction._state_kernel import OPTIMUM as OPTIMUM_CODE
from kvatlas.eviction.build import make_eviction
from kvatlas.eviction.check import check_eviction
from kvatlas.eviction.registry import OPTIMUM, EvictionPolicy, policy
from kvatlas.records import one_record
from kvatlas.workload.model import Workload
from kvatlas.workload.prompt_blocks import prompt_blocks

__all__ = ["PrefixOnlyResult", "PrefixOnlyRun", "simulate"]

Room = Literal["after", "before"]
_SLICE_ACCESSES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class PrefixOnlyResult:
    """What one policy did at one capacity.

    Attributes:
        policy: its name; capacity_blocks: blocks that the cache held at most after a request.
        requests: served so far, all of them unless the run was cut short.
        queried_blocks, queried_tokens: blocks looked up, and prompt tokens.
        hit_blocks: blocks found; hit_tokens: prompt tokens that need not be computed, at least the
            last one of a prompt left out, as in vLLM (not with `count_partial`).
        evictions: blocks evicted.
        row_hit_blocks: (N,) hit blocks of each request, None unless asked for.
    """

    policy: str
    capacity_blocks: int
    requests: int
    queried_blocks: int
    queried_tokens: int
    hit_blocks: int
    hit_tokens: int
    evictions: int
    row_hit_blocks: NDArray[np.int32] | None

    @property
    def block_hit_rate(self) -> float:
        """Hit blocks over queried blocks, 0 when none were."""
        return self.hit_blocks / max(1, self.queried_blocks)

    @property
    def token_hit_rate(self) -> float:
        """Hit tokens over queried tokens, 0 when none were."""
        return self.hit_tokens / max(1, self.queried_tokens)


def simulate(
    workload: Workload,
    policy: str | EvictionPolicy,
    capacity_blocks: int,
    *,
    block_size: int,
    count_partial: bool = False,
    room: Room = "after",
    rows: bool = False,
) -> PrefixOnlyResult:
    """Run `policy` over the whole workload at one capacity; see `PrefixOnlyRun` for the arguments.

    O(blocks of all prompts + evictions * log leaves). The machine code runs without the
    interpreter's lock: two capacities in two threads take as long as one.
    """
    run = PrefixOnlyRun(
        workload,
        policy,
        capacity_blocks,
        block_size=block_size,
        count_partial=count_partial,
        room=room,
        rows=rows,
    )
    for _ in run.slices():
        pass
    return run.result()


class PrefixOnlyRun:
    """One policy at one capacity over one workload, in slices.

    Args:
        workload: requests whose prefixes are known.
        policy: a name of `POLICIES`, `optimum`, or a policy with other knobs.
        capacity_blocks: blocks that may stay cached after each request, at least 1.
        block_size: tokens per block, a divisor or a multiple of the workload's identities.
        count_partial: the partial block at a prompt's end is a block like the others.
        room: `before`: room for a request's new blocks is made before they are inserted, as far as
            that is possible without its hits (policies by leaf only); `after`: when it is done.
        rows: keep the hit blocks of each request.

    Memory: 4 bytes per distinct block of the trace, some 100 per block of the capacity (or of the
    trace, where that is less); the optimum 4 more per block of all prompts.

    Raises:
        InputError: an unknown policy, a trace of lengths only, a block size that does not fit.
    """

    def __init__(
        self,
        workload: Workload,
        policy: str | EvictionPolicy,
        capacity_blocks: int,
        *,
        block_size: int,
        count_partial: bool = False,
        room: Room = "after",
        rows: bool = False,
    ) -> None:
        self.policy = _policy(policy)
        self.workload, self.capacity_blocks = workload, capacity_blocks
        if capacity_blocks < 1:
            raise InputError(
                "must be at least 1 block", field="capacity_blocks", value=capacity_blocks
            )
        if room == "before" and not self.policy.by_leaf:
            raise InputError(
                f"{self.policy.name} could evict what a request has just hit",
                field="room",
                value=room,
                remedy="use a policy by leaf, or make room after",
            )
        self._paths, num_contents, tail_span = _make_paths(workload, block_size, count_partial)
        longest = int(self._paths.blocks.max(initial=1))
        if self.policy.code == OPTIMUM_CODE:
            self._paths = _with_next_uses(self._paths, num_contents, longest)
        num_items = min(capacity_blocks, num_contents) + longest
        if num_items >= NEVER:
            raise InputError("too many blocks", field="capacity_blocks", value=capacity_blocks)
        self.eviction = make_eviction(
            self.policy,
            num_items=num_items,
            capacity=capacity_blocks,
            block_size=block_size,
            num_contents=num_contents,
            num_requests=workload.num_requests,
            tail_span=tail_span,
        )
        self._rows = rows
        self._cache = Cache(
            place_of=np.zeros(max(1, num_contents), np.int32),
            content_of=np.zeros(num_items, np.int64),
            empties=np.zeros(num_items, np.int32),
            contents=np.zeros(longest, np.int64),
            found=np.zeros(longest, np.int32),
            hits=np.zeros(max(2, workload.num_requests) if rows else 1, np.int32),
            run=one_record(
                RUN,
                capacity=capacity_blocks,
                room_before=int(room == "before"),
                count_partial=int(count_partial),
            ),
        )

    @property
    def requests_done(self) -> int:
        """Requests served so far."""
        return int(self._cache.run.row)

    def slices(self, *, max_accesses: int = _SLICE_ACCESSES) -> Iterator[None]:
        """Serve about `max_accesses` blocks at a time, yielding between the slices, until done."""
        passes = run_by_leaf if self.policy.by_leaf else run_queues
        while not passes(self.eviction, self._paths, self._cache, max_accesses):
            yield

    def result(self) -> PrefixOnlyResult:
        """Return what has happened so far."""
        run = self._cache.run
        done = int(run.row)
        return PrefixOnlyResult(
            policy=self.policy.name,
            capacity_blocks=self.capacity_blocks,
            requests=done,
            queried_blocks=int(run.accesses),
            queried_tokens=int(self.workload.prompt_tokens[:done].sum(dtype=np.int64)),
            hit_blocks=int(run.hit_blocks),
            hit_tokens=int(run.hit_tokens),
            evictions=int(self.eviction.info.evictions),
            row_hit_blocks=self._cache.hits[:done] if self._rows else None,
        )

    def check(self) -> None:
        """Verify the policy's state and the cache's. O(capacity). Raises: InvariantError."""
        check_eviction(self.eviction)
        place_of = self._cache.place_of
        cached = np.flatnonzero(self.eviction.items["cached"])
        held = int(self._cache.run.held)
        contents = self._cache.content_of[cached]
        if cached.size != held or np.count_nonzero(place_of) != held:
            raise InvariantError("the number of cached contents is wrong")
        if (place_of[contents] != cached + 1).any():
            raise InvariantError("a cached content does not know its place")
        if held > self.capacity_blocks:
            raise InvariantError("more is cached than the capacity allows")


def _policy(asked: str | EvictionPolicy) -> EvictionPolicy:
    if isinstance(asked, EvictionPolicy):
        return asked
    return OPTIMUM if asked == OPTIMUM.name else policy(asked)


def _make_paths(workload: Workload, block_size: int, count_partial: bool) -> tuple[Paths, int, int]:
    """Return the paths, how many contents there can be, and the blocks of a next turn's step."""
    cut = prompt_blocks(workload, block_size, count_partial=count_partial)
    prompt, step = workload.prompt_tokens.astype(np.int64), max(workload.tokens_per_id, block_size)
    paths = Paths(
        ids=workload.ids,
        id_offsets=workload.id_offsets,
        blocks=cut.counts.astype(np.int32),
        prompt_tokens=workload.prompt_tokens,
        answer_tokens=workload.output_tokens,
        tails=(prompt // step * (step // block_size)).astype(np.int32),
        ids_per_block=cut.ids_per_block,
        blocks_per_id=cut.blocks_per_id,
        block_size=block_size,
        next_use=np.zeros(1, np.int32),
    )
    return paths, workload.num_ids * cut.blocks_per_id, step // block_size


def _with_next_uses(paths: Paths, num_contents: int, longest: int) -> Paths:
    next_use = np.zeros(max(1, int(paths.blocks.sum(dtype=np.int64))), np.int32)
    find_next_uses(
        paths, np.zeros(longest, np.int64), np.zeros(max(1, num_contents), np.int32), next_use
    )
    return paths._replace(next_use=next_use)
