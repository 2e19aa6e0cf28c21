"""The real Scheduler stepped through a case under the driver's rules, as a stream of decisions.

Owns: arrivals, the two-deep pipeline of async scheduling, the stand-in for the model, and writing
each SchedulerOutput in the words of our decision stream. The rules are those of `kvatlas`'s driver:
before each step the waiting queue is topped up (backlog) or receives what has arrived (timed),
every request whose prefill is complete samples one token, an idle timed engine jumps to the next
arrival.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from cases import Case
from real import real_scheduler
from real_requests import RealRequests
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from kvatlas.engine.kernels.stream import (
    ADMIT_WORD,
    GROUP_WORD,
    GROW_WORD,
    PREEMPT_WORD,
    SCHEDULED_WORD,
    STEP_WORD,
)


class RealRun:
    """One case on the real Scheduler: iterate over `steps()`, then read the totals.

    `rejected` rows are never added; `set_aside` holds (steps done, row) for rows to abort then.
    """

    def __init__(
        self,
        case: Case,
        rejected: Iterable[int] = (),
        set_aside: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.case = case
        self.scheduler = real_scheduler(case.config)
        self.pool = self.scheduler.kv_cache_manager.block_pool
        self.totals: Counter[str] = Counter()
        self.usage: list[float] = []
        self.running: list[int] = []
        # When each request was first scheduled, got its first token, and finished: (3, N) ms.
        self.times_ms = np.full((3, case.workload.num_requests), np.nan)
        self.pool_operations = count_pool_operations(self.pool)
        self._requests = RealRequests(case)
        self._set_aside = deque(set_aside)
        self._rejected = frozenset(rejected) - {row for _, row in self._set_aside}
        self._next_row = 0
        self._clock_ms = 0.0
        self._arrival_ms = np.round(case.workload.arrival_s * 1e3, 6).tolist()
        self._pending: deque[tuple[Any, Any]] = deque()
        self._admitted: set[int] = set()

    def steps(self) -> Iterator[list[int]]:
        """Yield the words of each step until every request that was not rejected is done."""
        scheduler, drive = self.scheduler, self.case.drive
        is_async = self.case.config.async_scheduling
        num_rows = self.case.workload.num_requests
        while True:
            self._abort_set_aside()
            self._receive()
            if not scheduler.has_requests():
                if self._pending:
                    self._update(*self._pending.popleft())
                elif self._next_row >= num_rows:
                    return
                continue
            started_ms = self._clock_ms
            output = scheduler.schedule()
            for row in map(int, output.num_scheduled_tokens):
                _note(self.times_ms[0], row, started_ms)
            self.totals["steps"] += 1
            tokens = output.total_num_scheduled_tokens
            self.totals["scheduled_tokens"] += tokens
            self.totals["empty_steps"] += tokens == 0
            self._clock_ms += drive.step_ms_base + drive.step_ms_per_ktok * tokens / 1000.0
            self.usage.append(self.pool.get_usage())
            self.running.append(len(scheduler.running))
            words = self._words(output)
            self._pending.append((output, self._model(output)))
            pipelined = is_async and len(self._pending) < 2
            if not (pipelined and (tokens > 0 or scheduler.has_requests())):
                self._update(*self._pending.popleft())
            yield words

    def result(self) -> dict[str, int | float | str]:
        """Return the totals under the names of `ReplayResult.decisions`."""
        steps = max(1, self.totals["steps"])
        names = (
            "finished", "steps", "empty_steps", "scheduled_tokens", "preemptions",
            "admissions_new", "admissions_resumed", "prefix_queries", "prefix_hits",
            "preempted_queries", "preempted_hits",
        )  # fmt: skip
        return {
            **{name: self.totals[name] for name in names},
            "peak_usage": round(max(self.usage, default=0.0), 4),
            "mean_usage": round(sum(self.usage) / steps, 4),
            "mean_running": round(sum(self.running) / steps, 2),
        }

    def free_queue(self) -> list[int]:
        """Return the ids of the free blocks from head to tail."""
        return [b.block_id for b in self.pool.free_block_queue.get_all_free_blocks()]

    def num_cached_blocks(self) -> int:
        """Return how many blocks carry a hash."""
        return sum(block.block_hash is not None for block in self.pool.blocks)

    def _abort_set_aside(self) -> None:
        """Take out the requests that the twin sets aside at this point, instead of hanging."""
        while self._set_aside and self._set_aside[0][0] == self.totals["steps"]:
            name = str(self._set_aside.popleft()[1])
            self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
            self.scheduler.finished_req_ids.discard(name)

    def _receive(self) -> None:
        scheduler, drive = self.scheduler, self.case.drive
        num_rows = self.case.workload.num_requests
        if drive.arrivals == "backlog":
            while self._next_row < num_rows and len(scheduler.waiting) < drive.queue_depth:
                self._add_next()
            return
        idle = not scheduler.running and not scheduler.waiting and not self._pending
        if idle and self._next_row < num_rows:
            self._clock_ms = max(self._clock_ms, self._arrival_ms[self._next_row])
        while self._next_row < num_rows and self._arrival_ms[self._next_row] <= self._clock_ms:
            self._add_next()

    def _add_next(self) -> None:
        row = self._next_row
        self._next_row += 1
        if row not in self._rejected:
            self.scheduler.add_request(self._requests.make(row))

    def _model(self, output: Any) -> Any:
        """Return what a model would: a token for every request whose prefill is complete."""
        ids = list(output.num_scheduled_tokens)
        sampled = [
            [] if self.scheduler.requests[i].is_prefill_chunk else [self._requests.sample(int(i))]
            for i in ids
        ]
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={name: at for at, name in enumerate(ids)},
            sampled_token_ids=sampled,
        )

    def _update(self, output: Any, model_output: Any) -> None:
        for name, sampled in zip(model_output.req_ids, model_output.sampled_token_ids, strict=True):
            if sampled:
                _note(self.times_ms[1], int(name), self._clock_ms)
        for outputs in self.scheduler.update_from_output(output, model_output).values():
            for done in outputs.outputs:
                if done.finish_reason is not None:
                    self.totals["finished"] += 1
                    self.times_ms[2, int(done.request_id)] = self._clock_ms
            stats = outputs.scheduler_stats
            if stats is not None and stats.prefix_cache_stats is not None:
                seen = stats.prefix_cache_stats
                self.totals["prefix_queries"] += seen.queries
                self.totals["prefix_hits"] += seen.hits
                self.totals["preempted_queries"] += seen.preempted_queries
                self.totals["preempted_hits"] += seen.preempted_hits

    def _words(self, output: Any) -> list[int]:
        words = [STEP_WORD, self.totals["steps"]]
        # Model runner V2 lists resumed requests behind the new ones, V1 among the cached ones.
        for new in output.scheduled_new_reqs:
            words += self._admission(int(new.req_id), new.num_computed_tokens, new.block_ids)
        grown: list[int] = []
        cached = output.scheduled_cached_reqs
        for at, name in enumerate(cached.req_ids):
            blocks = cached.new_block_ids[at]
            if name in cached.resumed_req_ids:
                words += self._admission(int(name), cached.num_computed_tokens[at], blocks)
            elif blocks is not None:
                grown += [GROW_WORD, int(name), *joined(blocks)]
        words += grown
        preempted = sorted(int(name) for name in output.preempted_req_ids or ())
        self.totals["preemptions"] += len(preempted)
        for row in preempted:
            words += [PREEMPT_WORD, row]
        words += [SCHEDULED_WORD, self.pool.get_num_free_blocks()]
        for name, tokens in output.num_scheduled_tokens.items():
            words += [int(name), tokens]
        return words

    def _admission(self, row: int, hit: int, blocks: Any) -> list[int]:
        self.totals["admissions_resumed" if row in self._admitted else "admissions_new"] += 1
        self._admitted.add(row)
        return [ADMIT_WORD, row, hit, *joined(blocks)]


def _note(times_ms: Any, row: int, clock_ms: float) -> None:
    if np.isnan(times_ms[row]):
        times_ms[row] = clock_ms


def joined(blocks_per_group: Iterable[Iterable[int]]) -> list[int]:
    """Return the groups' block ids with a separator between groups."""
    words: list[int] = []
    for group, blocks in enumerate(blocks_per_group):
        words += [GROUP_WORD] * (group > 0) + list(blocks)
    return words


def count_pool_operations(pool: Any) -> Counter[str]:
    """Count, per kind, the blocks that pass through the real pool's operations from now on."""
    counts: Counter[str] = Counter()
    get_new_blocks, touch = pool.get_new_blocks, pool.touch
    free_blocks, insert = pool.free_blocks, pool._insert_block_hash

    def counted_get(num_blocks: int) -> Any:
        counts["allocated"] += num_blocks
        return get_new_blocks(num_blocks)

    def counted_touch(blocks: Any) -> None:
        counts["touched"] += len(blocks)
        touch(blocks)

    def counted_free(blocks: Any) -> None:
        listed = list(blocks)
        counts["freed"] += len(listed)
        free_blocks(listed)

    def counted_insert(key: Any, block: Any, num_tokens: int | None) -> None:
        counts["cached"] += 1
        insert(key, block, num_tokens=num_tokens)

    pool.get_new_blocks, pool.touch = counted_get, counted_touch
    pool.free_blocks, pool._insert_block_hash = counted_free, counted_insert
    return counts
