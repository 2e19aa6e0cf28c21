"""Replay: a workload through the twin, from rows to results.

Owns: laying requests out for the engine, setting aside what can never be served, running in slices
so that progress shows and Ctrl-C stops cleanly, and the frozen result. Leaves to others: each step
(`drive`), and reports (`kvatlas.report`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kvatlas.engine import drive as d
from kvatlas.engine.build import make_engine, make_requests, make_step
from kvatlas.engine.check import check_engine
from kvatlas.engine.specs import CrossAttentionSpec, EngineConfig
from kvatlas.engine.state import (
    F64,
    I64,
    REJECTED,
    TOTALS,
    Engine,
    Records,
    one_record,
    records,
)
from kvatlas.engine.step_time import LINEAR, StepTime
from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

_SLICE_STEPS = 1 << 16
_SLICE_TOKENS = 1 << 24
_SINK_WORDS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class DriveConfig:
    """How requests come and how long a step takes.

    Attributes:
        arrivals: `backlog` keeps `queue_depth` requests waiting; `timed` follows the trace's clock.
        queue_depth: requests.
        step_ms_base, step_ms_per_ktok: the linear step-time model, milliseconds.
        block_like_vllm: keep a request that can never fit at the head of the queue, where it blocks
            the rest for ever, as in vLLM; otherwise it is set aside and reported.
    """

    arrivals: Literal["backlog", "timed"] = "backlog"
    queue_depth: int = 256
    step_ms_base: float = 8.0
    step_ms_per_ktok: float = 12.0
    block_like_vllm: bool = False

    def __post_init__(self) -> None:
        if self.arrivals not in ("backlog", "timed"):
            raise InputError(
                "unknown arrivals", field="arrivals", value=self.arrivals,
                remedy="use backlog or timed",
            )
        if self.queue_depth < 1:
            raise InputError("must be at least 1", field="queue_depth", value=self.queue_depth)
        for name in ("step_ms_base", "step_ms_per_ktok"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(
                    "must be a number of milliseconds, 0 or more", field=name, value=value
                )
        if self.arrivals == "timed" and self.step_ms_base + self.step_ms_per_ktok == 0:
            raise InputError(
                "a step that takes no time never reaches the next arrival", field="step_ms_base",
                value=0.0, remedy="give step_ms_base or step_ms_per_ktok a positive value",
            )


@dataclass(frozen=True)
class ReplayResult:
    """What a replay decided and cost; every count is exact, times are on the simulated clock.

    Attributes:
        decisions: counts under the names of the recorded reference results.
        sums: integrals over the simulated clock (block-milliseconds and the like) and counts, by
            name (`Replay.sums`).
        rejected: rows set aside because no empty pool could serve them.
        blocked_row: the row that blocks the queue for ever, None if none does.
        partial: True when stopped before the end.
        first_scheduled_ms, first_token_ms, finished_ms: (N,) NaN where it did not happen.
    """

    decisions: dict[str, int | float | str]
    sums: dict[str, float]
    rejected: tuple[int, ...]
    blocked_row: int | None
    partial: bool
    engine_s: float
    first_scheduled_ms: F64 = field(repr=False)
    first_token_ms: F64 = field(repr=False)
    finished_ms: F64 = field(repr=False)


class Replay:
    """One workload on one engine; `run()` once, then read the result.

    Memory: the pool (33 bytes per block and 24 for its index), the block tables of `max_num_seqs`
    requests, some 100 bytes per request.

    Raises:
        InputError: a block size that does not fit the workload's identities.
    """

    def __init__(
        self,
        workload: Workload,
        config: EngineConfig,
        drive: DriveConfig | None = None,
        *,
        checksum: bool = False,
        on_words: Callable[[d.U32], None] | None = None,
    ) -> None:
        self.workload, self.config = workload, config
        self.drive_config = drive or DriveConfig()
        requests = lay_out(workload, config)
        longest = int(
            (workload.prompt_tokens.astype(np.int64) + workload.output_tokens).max(initial=1)
        )
        ids = workload.ids.astype(np.int64, copy=False)
        self.engine = make_engine(
            config, requests, ids, workload.tokens_per_id if workload.prefix_known else 1, longest
        ) if workload.prefix_known else make_engine(
            config, requests, np.zeros(1, np.int64), config.resolved_hash_block_size, longest
        )
        self._rejected: list[int] = []
        if not self.drive_config.block_like_vllm:
            self._rejected = [int(row) for row in np.flatnonzero(never_fits(workload, config))]
            requests["status"][self._rejected] = REJECTED
        self._sha = hashlib.sha256() if checksum else None
        self._on_words = on_words
        self._step, self._pending = make_step(config), make_step(config)
        times = records(workload.num_requests, d.TIMES)
        for name in times.dtype.names:
            times[name][:] = np.nan
        self._progress = d.Progress(
            state=one_record(d.PROGRESS),
            totals=one_record(TOTALS),
            finished=np.zeros(config.max_num_seqs, np.int64),
            times=times,
        )
        self._sink = self._make_sink()
        self._arrivals = d.Arrivals(
            # Rounded to a nanosecond, so that a trace's whole milliseconds stay whole.
            arrival_ms=np.round(workload.arrival_s * 1e3, 6),
            timed=int(self.drive_config.arrivals == "timed"),
            queue_depth=self.drive_config.queue_depth,
        )
        self._step_time = StepTime(
            LINEAR, float(self.drive_config.step_ms_base), float(self.drive_config.step_ms_per_ktok)
        )
        self._engine_s = 0.0
        self._partial = True
        self._blocked: int | None = None

    def run(self, on_progress: Callable[[Replay], None] | None = None) -> ReplayResult:
        """Run to the end and return the result; `on_progress` is called between slices.

        A KeyboardInterrupt between slices propagates; `result()` then holds what was done so far.
        """
        for _ in self.slices():
            if on_progress is not None:
                on_progress(self)
        return self.result()

    def slices(
        self, *, max_steps: int = _SLICE_STEPS, max_tokens: int = _SLICE_TOKENS
    ) -> Iterator[None]:
        """Run slice after slice, yielding between them, until done or blocked."""
        while True:
            started = time.perf_counter()
            status = d.drive(
                self.engine,
                self._step,
                self._pending,
                self._arrivals,
                self._step_time,
                self._sink,
                self._progress,
                max_steps,
                max_tokens,
            )
            self._drain()
            if status == d.BLOCKED:
                row = int(self._progress.state.blocked_row)
                if self.drive_config.block_like_vllm:
                    self._blocked = row
                    return
                d.reject(self.engine, row)
                self._rejected.append(row)
            self._engine_s += time.perf_counter() - started
            if status == d.DONE:
                self._partial = False
                return
            yield

    @property
    def requests_finished(self) -> int:
        """Requests done so far."""
        return int(self._progress.totals.finished)

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return int(self._progress.state.steps)

    def sums(self) -> dict[str, float]:
        """Return what has been summed up so far, by name; cheap enough to ask between slices.

        Integrals over the simulated clock end in `_ms`; everything else is a count.
        """
        state, totals = self._progress.state, self._progress.totals
        sums = {
            name: float(getattr(state, name))
            for name in d.PROGRESS.names or ()
            if name.endswith("_ms")
        }
        sums |= {name: float(getattr(totals, name)) for name in TOTALS.names or ()}
        info = self.engine.pool.info
        sums |= {name: float(getattr(info, name)) for name in ("evictions", "allocations")}
        return sums

    def check(self) -> None:
        """Check every invariant of the engine; O(blocks + requests). Raises InvariantError."""
        check_engine(self.engine)

    def result(self) -> ReplayResult:
        """Return what has been decided so far."""
        state, totals = self._progress.state, self._progress.totals
        steps, hits, queries = int(state.steps), int(totals.hits), int(totals.queries)
        decisions: dict[str, int | float | str] = {
            "requests": self.workload.num_requests,
            "finished": int(totals.finished),
            "steps": steps,
            "empty_steps": int(state.empty_steps),
            "scheduled_tokens": int(state.scheduled_tokens),
            "preemptions": int(totals.preemptions),
            "admissions_new": int(totals.admitted_new),
            "admissions_resumed": int(totals.admitted_resumed),
            "prefix_queries": queries,
            "prefix_hits": hits,
            "hit_rate": round(hits / max(1, queries), 6),
            "preempted_queries": int(totals.preempted_queries),
            "preempted_hits": int(totals.preempted_hits),
            "peak_usage": round(float(state.peak_usage), 4),
            "mean_usage": round(float(state.usage_sum) / max(1, steps), 4),
            "mean_running": round(int(state.running_sum) / max(1, steps), 2),
        }
        if self._sha is not None:
            decisions["alloc_sha256"] = self._sha.hexdigest()[:16]
            decisions["freelist_sha256"] = hashlib.sha256(
                free_queue(self.engine).astype("<u4").tobytes()
            ).hexdigest()[:16]
        return ReplayResult(
            decisions=decisions,
            sums=self.sums(),
            rejected=tuple(self._rejected),
            blocked_row=self._blocked,
            partial=self._partial,
            engine_s=self._engine_s,
            first_scheduled_ms=self._progress.times["first_scheduled_ms"],
            first_token_ms=self._progress.times["first_token_ms"],
            finished_ms=self._progress.times["finished_ms"],
        )

    def _make_sink(self) -> d.Sink:
        mode = 2 if self._on_words is not None else int(self._sha is not None)
        if mode == 0:
            return d.Sink(np.zeros(1, np.uint32), np.zeros(1, np.int64), 0, 0)
        groups, seqs, width = self.engine.table.shape
        # One step writes at most every table of every running request, and two words per entry.
        bound = seqs * (groups * (width + 1) + 8) + 16
        return d.Sink(
            np.empty(_SINK_WORDS + bound, np.uint32), np.zeros(1, np.int64), mode, bound
        )

    def _drain(self) -> None:
        used = int(self._sink.used[0])
        if used == 0:
            return
        words = self._sink.words[:used]
        if self._sha is not None:
            self._sha.update(words.astype("<u4", copy=False).data)
        if self._on_words is not None:
            self._on_words(words.copy())
        self._sink.used[0] = 0


def lay_out(workload: Workload, config: EngineConfig) -> Records:
    """Return the request rows of `workload`: lengths, priorities, and where their keys come from.

    Under the priority policy a trace without priorities gets row % 3, as the recorded reference.
    """
    num_rows = workload.num_requests
    hash_block = config.resolved_hash_block_size
    requests = make_requests(num_rows)
    requests["prompt"][:] = workload.prompt_tokens
    requests["max_tokens"][:] = workload.output_tokens
    requests["num_tokens"][:] = workload.prompt_tokens
    rows = np.arange(num_rows, dtype=np.int64)
    classes = workload.priority.astype(np.int64)
    if config.policy == "priority" and not classes.any():
        classes = rows % 3
    requests["priority"][:] = (classes - classes.min(initial=0)) * max(1, num_rows) + rows
    total = workload.prompt_tokens.astype(np.int64) + workload.output_tokens
    covered = np.zeros(num_rows, np.int64)
    shared_keys = 0
    if workload.prefix_known:
        per_id = workload.tokens_per_id
        if config.enable_prefix_caching and per_id % hash_block and hash_block % per_id:
            raise InputError(
                f"block size does not divide the trace's {per_id} tokens per identity",
                file=workload.source, field="block_size", value=hash_block,
                remedy=f"use a divisor or a multiple of {per_id}",
            )
        covered = total if workload.outputs_identified else workload.prompt_tokens.astype(np.int64)
        requests["id_start"][:] = workload.id_offsets[:-1]
        shared_keys = workload.num_ids * max(1, per_id // hash_block)
    requests["covered"][:] = covered
    unique = total // hash_block - covered // hash_block + 1
    requests["unique_start"][:] = shared_keys + np.cumsum(unique) - unique
    return requests


def blocks_needed(workload: Workload, config: EngineConfig) -> I64:
    """Return (N,) the blocks that each request holds at its end, shared ones included; O(N).

    Prompt and all output but the last token, which is never computed, within max_model_len.
    """
    prompt = workload.prompt_tokens.astype(np.int64)
    total = np.minimum(prompt + workload.output_tokens, config.max_model_len) - 1
    tokens = np.minimum(total + config.num_lookahead_tokens, config.max_model_len)
    blocks = np.zeros(workload.num_requests, np.int64)
    for spec in config.groups:
        if isinstance(spec, CrossAttentionSpec):
            continue
        cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
        need = -(-tokens // spec.block_size)
        blocks += need if cap is None else np.minimum(need, cap)
    return blocks


def never_fits(workload: Workload, config: EngineConfig) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return (N,) True where a request could not be served by an otherwise empty pool.

    Its prompt leaves no room for one output token within max_model_len, or it needs more blocks
    than the pool has.
    """
    too_long = workload.prompt_tokens >= config.max_model_len
    return too_long | (blocks_needed(workload, config) > config.num_blocks - 1)


def free_queue(engine: Engine) -> I64:
    """Return the free block ids from head to tail; O(blocks)."""
    chain = engine.pool.blocks["next_free"].tolist()
    ids, sentinel = [], len(chain) - 1
    block = chain[sentinel]
    while block != sentinel:
        ids.append(block)
        block = chain[block]
    return np.array(ids, np.int64)

