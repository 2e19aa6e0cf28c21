"""Placement policies side by side on one workload: runs, hits, time, free blocks.

Owns: running them (requests one after another, or in the whole scheduler) and how large the pool
is unless somebody says. Leaves to others: the policies (`kvatlas.placement`), what is measured
(`kvatlas.measure.contiguity`), what to make of it (`placement_verdict`), views.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.pool_calls import PoolCalls
from kvatlas.engine.recorded import recording_header
from kvatlas.errors import InvariantError
from kvatlas.events import Chunk
from kvatlas.events.resolve import Resolver
from kvatlas.jit import COMPILED
from kvatlas.measure.contiguity import Contiguity
from kvatlas.placement import PLACEMENTS, PlacementPolicy, placement_policy
from kvatlas.report.placement_document import QUEUE, PlacementRow
from kvatlas.workload import Workload

__all__ = ["PlacementComparison", "compare_placements", "open_loop", "pool_size"]

I64 = NDArray[np.int64]

_SLICE_STEPS = 1 << 14 if COMPILED else 64
_MOST_BLOCKS = 187_500
"""Blocks of the pool at most unless somebody says: 3 million tokens in blocks of 16."""
_SHARE = 8


@dataclass(frozen=True, slots=True)
class PlacementComparison:
    """Policies on one workload.

    Attributes:
        rows: those that were run to their end, the queue first.
        partial: why some are missing; empty when none is.
    """

    rows: tuple[PlacementRow, ...]
    partial: str = ""


def pool_size(workload: Workload, block_size: int) -> tuple[int, str]:
    """Return how many blocks a pool has in which placement matters, and why; O(N).

    A pool that is never full hands out fresh blocks in order whatever the policy. One of an eighth
    of the trace's different blocks is filled over and over; no less than twice the largest request,
    no more than 3 million tokens in blocks of 16.
    """
    prompts = -(-workload.prompt_tokens.astype(np.int64) // block_size)
    answers = -(-workload.output_tokens.astype(np.int64) // block_size)
    different = int(prompts.sum())
    if workload.prefix_known:
        different = min(different, -(-workload.num_ids * workload.tokens_per_id // block_size))
    least = 2 * int((prompts + answers).max(initial=1)) + 1
    size = max(least, min(different // _SHARE, _MOST_BLOCKS))
    if size == least:
        return size, "twice the largest request"
    if size == different // _SHARE:
        return size, "an eighth of the trace's different blocks"
    return size, "3 million tokens in blocks of 16"


def open_loop(
    workload: Workload, config: EngineConfig
) -> tuple[Workload, EngineConfig, DriveConfig]:
    """Return what lets requests come one after another, whole prompts at once, inputs only.

    Each is admitted into an idle engine, computes its prompt in one step, and is gone: what lies
    where is the doing of placement and eviction alone.
    """
    inputs = workload.with_(
        output_tokens=np.ones_like(workload.output_tokens),
        # A prompt's identities lead those of prompt and answer; nobody reads on.
        outputs_identified=False,
    )
    longest = int(workload.prompt_tokens.max(initial=1))
    alone = config.with_(max_num_seqs=1, max_num_batched_tokens=longest, max_model_len=longest + 2)
    return inputs, alone, DriveConfig(queue_depth=1)


def compare_placements(
    workload: Workload,
    config: EngineConfig,
    names: Sequence[str] | None = None,
    *,
    drive: DriveConfig | None = None,
    blocks_per_page: int = 32,
    blocks_per_copy: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PlacementComparison:
    """Run each policy over `workload`, each with a pool beside it that makes the same calls alone.

    O(P (steps + blocks)) for P policies; some 0.3 us per block and policy.

    Args:
        workload: the requests.
        config: the engine; its own placement is replaced by each in turn.
        names: of `kvatlas.placement.PLACEMENTS`, all of them by default; the queue is always there.
        drive: how requests come to the engine; None for the open loop.
        blocks_per_page, blocks_per_copy: see `kvatlas.measure.contiguity.Contiguity`.
        on_progress: called between slices with requests finished, requests in all, and which
            policy runs.
        should_stop: asked as often; True ends it with the policies that are whole.

    Raises: InputError for an unknown policy, or settings of which no engine can be made.
    """
    asked = list(PLACEMENTS) if names is None else list(dict.fromkeys([QUEUE, *names]))
    chosen = [placement_policy(name) for name in asked]
    if drive is None:
        workload, config, drive = open_loop(workload, config)
    config = config.with_(max_num_seqs=max(1, min(config.max_num_seqs, workload.num_requests)))
    total = workload.num_requests * len(chosen)
    rows: list[PlacementRow] = []
    hits: I64 | None = None
    for number, policy in enumerate(chosen):
        run = _Run(workload, config, drive, policy, blocks_per_page, blocks_per_copy)
        for _ in chain((None,), run.replay.slices(max_steps=_SLICE_STEPS)):
            if on_progress is not None:
                done = number * workload.num_requests + run.replay.requests_finished
                on_progress(done, total, policy.title)
            if should_stop is not None and should_stop():
                left = ", ".join(each.name for each in chosen[number:])
                return PlacementComparison(tuple(rows), f"interrupted: without {left}")
        row = run.row(hits)
        if policy.name == QUEUE:
            hits = row.measured.tables.hit_tokens
        rows.append(row)
    return PlacementComparison(tuple(rows))


class _Run:
    """One policy: a replay, what is measured of it, and the pool that is timed."""

    def __init__(
        self,
        workload: Workload,
        config: EngineConfig,
        drive: DriveConfig,
        policy: PlacementPolicy,
        blocks_per_page: int,
        blocks_per_copy: int | None,
    ) -> None:
        self._began_s = time.perf_counter()
        self._policy = policy
        config = config.with_(placement=policy.name)
        self.replay = Replay(workload, config, drive)
        header = recording_header(self.replay, version="", engine="vLLM")
        self._resolver = Resolver(header)
        self._measure = Contiguity(
            header, blocks_per_page=blocks_per_page, blocks_per_copy=blocks_per_copy
        )
        self._calls = PoolCalls(config, header)
        self.replay.listen(self._hear)

    def _hear(self, chunk: Chunk) -> None:
        resolved = self._resolver.resolve(chunk)
        self._measure.feed(resolved)
        self._calls.feed(resolved)

    def row(self, queue_hits: I64 | None) -> PlacementRow:
        """Return what was found; `queue_hits` are the queue's hit tokens by request."""
        policy, result, measured = self._policy, self.replay.result(), self._measure.result()
        hits = measured.tables.hit_tokens
        same = queue_hits is None or bool(np.array_equal(hits, queue_hits))
        if policy.same_victims and not same:
            raise InvariantError(f"{policy.name} evicts what the queue does, yet the hits differ")
        return PlacementRow(
            name=policy.name,
            title=_title(policy),
            summary=policy.summary,
            source=policy.source,
            measured=measured,
            same_hits=same,
            never_served=len(result.rejected),
            preemptions=int(result.decisions["preemptions"]),
            allocated_blocks=self._calls.blocks,
            allocations=self._calls.calls,
            pool_s=self._calls.seconds,
            seconds=time.perf_counter() - self._began_s,
        )


def _title(policy: PlacementPolicy) -> str:
    """Return the policy's title, with the number that was asked for."""
    number = policy.name.partition(":")[2]
    return f"{policy.title} {number}" if number else policy.title
