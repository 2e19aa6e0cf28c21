"""Replay: a workload through the twin, from rows to results.

Owns: setting aside what can never be served, running in slices so that progress shows and Ctrl-C
stops cleanly. Leaves to others: each step (`drive`), rows (`workload_rows`), reports.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from kvatlas.engine.build import make_engine, make_step
from kvatlas.engine.check import check_engine
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.arrivals import Arrivals
from kvatlas.engine.kernels.drive import BLOCKED, DONE, drive, reject
from kvatlas.engine.kernels.state import I64, REJECTED, TOTALS, Engine, Pool
from kvatlas.engine.kernels.step_time import LINEAR, StepTime
from kvatlas.engine.kernels.stream import U32, Sink
from kvatlas.engine.kernels.sums import PROGRESS, TIMES, Progress
from kvatlas.engine.results import DriveConfig, ReplayResult
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.engine.workload_rows import blocks_needed, count_keys, lay_out, never_fits
from kvatlas.errors import InvariantError
from kvatlas.events import Chunk
from kvatlas.events._log_kernel import make_log, take_chunk
from kvatlas.records import one_record, records
from kvatlas.workload.model import Workload

_SLICE_STEPS = 1 << 16
_SLICE_TOKENS = 1 << 24
_SINK_WORDS = 1 << 22
_LOG_ROWS = 1 << 17
_MOST_STEP_ROWS = 1 << 24
"""Rows of a single step that the log makes room for: 1.9 GB of address space, not of memory."""

_COUNTED = (
    "lazy_kept",
    "lazy_hurried",
    "refreshed_blocks",
    "prefetched",
    "allocated_ahead",
    "held_back",
)


class Replay:
    """One workload on one engine; `run()` once, then read the result.

    Memory: 48 to 56 bytes per block, the block tables of `max_num_seqs` requests (4 bytes per block
    of the longest request), some 180 bytes per request.

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
        on_words: Callable[[U32], None] | None = None,
        on_events: Callable[[Chunk], None] | None = None,
    ) -> None:
        self.workload, self.config = workload, config
        self.drive_config = drive or DriveConfig()
        requests = lay_out(workload, config)
        longest = int(
            (workload.prompt_tokens.astype(np.int64) + workload.output_tokens).max(initial=1)
        )
        ids = workload.ids.astype(np.int64, copy=False)
        per_id = workload.tokens_per_id
        if not workload.prefix_known:
            ids, per_id = np.zeros(1, np.int64), config.resolved_hash_block_size
        self.num_keys = count_keys(requests, config)
        judged = len(config.groups) == 1 and isinstance(config.groups[0], FullAttentionSpec)
        judged = judged and config.enable_prefix_caching and workload.prefix_known
        self.engine = make_engine(
            config,
            requests,
            ids,
            per_id,
            longest,
            num_keys=self.num_keys,
            judged=judged,
            ms_per_token=self.drive_config.step_ms_per_ktok / 1e3,
        )
        self._rejected: list[int] = []
        if not self.drive_config.block_like_vllm:
            self._rejected = [int(row) for row in np.flatnonzero(never_fits(workload, config))]
            requests["status"][self._rejected] = REJECTED
        self._sha = hashlib.sha256() if checksum else None
        self._on_words = on_words
        self._step, self._pending = make_step(config), make_step(config)
        times = records(workload.num_requests, TIMES)
        for name in times.dtype.names:
            times[name][:] = np.nan
        self._progress = Progress(
            state=one_record(PROGRESS),
            totals=one_record(TOTALS),
            finished=np.zeros(config.max_num_seqs, np.int64),
            times=times,
        )
        self._sink = self._make_sink()
        self._arrivals = Arrivals(
            # Rounded to a nanosecond, so that a trace's whole milliseconds stay whole.
            arrival_ms=np.round(workload.arrival_s * 1e3, 6),
            timed=int(self.drive_config.arrivals == "timed"),
            queue_depth=self.drive_config.queue_depth,
            patient=int(self.drive_config.block_like_vllm),
        )
        self._step_time = StepTime(
            LINEAR, float(self.drive_config.step_ms_base), float(self.drive_config.step_ms_per_ktok)
        )
        self._engine_s = 0.0
        self._partial = True
        self._blocked: int | None = None
        self._on_events: Callable[[Chunk], None] | None = None
        if on_events is not None:
            self.listen(on_events)

    def listen(self, on_events: Callable[[Chunk], None]) -> None:
        """Let `on_events` hear what happens from now on, a chunk at a time, in the order of time.

        A chunk's memory is used again after the call: `EventWriter.append` and `Chunk.copy` keep
        it. Listening changes no decision, and takes about as long again as the replay.
        """
        self._on_events = on_events
        self.engine = self.engine._replace(pool=self._logged_pool())

    def flush_events(self) -> None:
        """Hand what was logged since the last slice to the listener."""
        self._drain()

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
            status = drive(
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
            if status == BLOCKED:
                row = int(self._progress.state.blocked_row)
                if self.drive_config.block_like_vllm:
                    self._blocked = row
                    return
                reject(self.engine, row)
                self._rejected.append(row)
            self._engine_s += time.perf_counter() - started
            if status == DONE:
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
            for name in PROGRESS.names or ()
            if name.endswith("_ms")
        }
        sums |= {name: float(getattr(totals, name)) for name in TOTALS.names or ()}
        info = self.engine.pool.info
        sums |= {name: float(getattr(info, name)) for name in ("evictions", "allocations")}
        sums["refused_requests"] = float(len(self._rejected))
        return sums | self._pressure_sums() | self._tier_sums()

    def _pressure_sums(self) -> dict[str, float]:
        """Return what the policies for short memory have done; nothing while all are off."""
        pressure = self.engine.pressure
        if pressure is None:
            return {}
        return {f"pressure_{name}": float(getattr(pressure.info, name)) for name in _COUNTED}

    def _tier_sums(self) -> dict[str, float]:
        """Return what the host tier has done; nothing without one."""
        tier = self.engine.pool.tier
        if tier is None:
            return {}
        names = ("restored", "written", "kept", "saved_at_preemption", "swapped", "recomputed")
        counts = {f"host_{name}": float(getattr(tier.info, name)) for name in names}
        held = ("capacity", "used", "inserts", "evictions", "refusals")
        counts |= {f"host_{name}": float(getattr(tier.store.info, name)) for name in held}
        return counts | {"host_moving_ms": float(tier.info.moving_ms)}

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
        if self.config.host_blocks:
            decisions["restored_tokens"] = int(totals.restored)
            decisions["preempted_restored_tokens"] = int(totals.preempted_restored)
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

    def _make_sink(self) -> Sink:
        mode = 2 if self._on_words is not None else int(self._sha is not None)
        if mode == 0:
            return Sink(np.zeros(1, np.uint32), np.zeros(1, np.int64), 0, 0)
        groups, seqs, width = self.engine.table.shape
        # One step writes at most every table of every running request, and two words per entry.
        bound = seqs * (groups * (width + 1) + 8) + 16
        return Sink(np.empty(_SINK_WORDS + bound, np.uint32), np.zeros(1, np.int64), mode, bound)

    def _logged_pool(self) -> Pool:
        """Return the pool with a log that has room for one slice and the largest step after it."""
        groups, seqs, width = self.engine.table.shape
        config, workload = self.config, self.workload
        smallest = min(spec.block_size for spec in config.groups)
        new_blocks = config.max_num_batched_tokens // smallest + 2 * seqs
        encoder = int(self.engine.requests["encoder"].max(initial=0)) // smallest
        step_rows = groups * (
            # Every block of every table touched or freed, each a row of its own; then new blocks:
            # evicted, allocated, cached.
            2 * seqs * min(width, config.num_blocks) + 3 * (new_blocks + seqs * encoder)
        )
        if self.engine.pool.tier is not None:
            # Each new block may have been written first, and each table once more at its end.
            step_rows += new_blocks + seqs * min(width, config.num_blocks) + seqs
        step_rows += 8 * seqs + 2 * workload.num_requests + 16
        step_rows = min(step_rows, _MOST_STEP_ROWS)
        log = make_log(_LOG_ROWS + step_rows, 2 * (_LOG_ROWS + step_rows))
        log.info.step_rows = step_rows
        return self.engine.pool._replace(log=log)

    def _drain(self) -> None:
        if self._on_events is not None:
            if self.engine.pool.log.info.dropped:
                lost = int(self.engine.pool.log.info.dropped)
                raise InvariantError(f"a step had more events than the log has room: {lost:,} lost")
            self._on_events(take_chunk(self.engine.pool.log))
        used = int(self._sink.used[0])
        if used == 0:
            return
        words = self._sink.words[:used]
        if self._sha is not None:
            self._sha.update(words.astype("<u4", copy=False).data)
        if self._on_words is not None:
            self._on_words(words.copy())
        self._sink.used[0] = 0


def free_queue(engine: Engine) -> I64:
    """Return the free block ids from head to tail; O(blocks)."""
    chain = engine.pool.blocks["next_free"].tolist()
    ids, sentinel = [], len(chain) - 1
    block = chain[sentinel]
    while block != sentinel:
        ids.append(block)
        block = chain[block]
    return np.array(ids, np.int64)


__all__ = [
    "DriveConfig",
    "Replay",
    "ReplayResult",
    "blocks_needed",
    "free_queue",
    "lay_out",
    "never_fits",
]
