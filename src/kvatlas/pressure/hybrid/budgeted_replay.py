"""`BudgetedReplay`: a replay whose device blocks and host tier share a budget, divided as it runs.

Owns: parking blocks of the running engine's pool, resizing its tier, what the loop is told, the
log. Leaves to others: the engine (`kvatlas.engine`), what a division is worth (`trace_evidence`),
when to move (`loop`).

The engine has as many blocks as the budget could ever buy, and those that it cannot use now are
parked: taken from the head of the free queue like a request's, so that what they cached goes to the
host tier first, and owned by nobody. To the engine the pool is then smaller. Between steps only,
and never a block in use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.check import check_engine
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import REJECTED
from kvatlas.engine.kernels.stream import U32
from kvatlas.engine.replay import DriveConfig, Replay
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.engine.workload_rows import blocks_needed
from kvatlas.errors import InputError, InvariantError
from kvatlas.events import Chunk
from kvatlas.measure.curves import request_paths, reuse_runs
from kvatlas.pressure.hybrid.loop import TuningLoop
from kvatlas.pressure.hybrid.memory_budget import MemoryBudget
from kvatlas.pressure.hybrid.trace_evidence import TraceEvidence
from kvatlas.pressure.hybrid.tuning import Division
from kvatlas.tiers import _entries_kernel as tier_entries
from kvatlas.workload import Workload

__all__ = ["BudgetedReplay"]

_BETWEEN_LOOKS = 64
"""Steps after which there may be a look; whatever the slices, so that results do not depend."""
_KEPT = 512


class BudgetedReplay(Replay):
    """One workload on one engine under one budget; `run()` once, then read the result.

    Args:
        workload, config, drive, checksum, on_words: as for `Replay`; the blocks of `config` are the
            budget's.
        budget: the bytes, their prices, the first division, the loop's knobs.

    Attributes:
        budget: as given; loop: what it saw and did; clock_s: the simulated seconds of each look.

    Raises:
        InputError: layers that are not one group of full attention, no prefix caching, a host
            policy or an eviction policy other than `lru`, by whose stack the loop counts.
    """

    def __init__(
        self,
        workload: Workload,
        config: EngineConfig,
        drive: DriveConfig | None = None,
        *,
        budget: MemoryBudget,
        checksum: bool = False,
        on_words: Callable[[U32], None] | None = None,
    ) -> None:
        for name in ("eviction_policy", "host_policy"):
            if getattr(config, name) != "lru":
                raise InputError(
                    "a memory budget is divided by what an LRU cache of each size would find",
                    field=name,
                    value=getattr(config, name),
                    remedy="use lru, or give the two parts sizes of their own",
                )
        config = budget.configured(config)
        space, start = budget.divisions(workload, config)
        super().__init__(workload, config, drive, checksum=checksum, on_words=on_words)
        if budget.device_blocks is not None and not self.drive_config.block_like_vllm:
            self._set_aside(blocks_needed(workload, config) > budget.device_blocks)
        self.budget, self._start = budget, start
        self.clock_s: deque[float] = deque(maxlen=_KEPT)
        self.loop = TuningLoop(space, start, budget.tuning, self)
        self._evidence = _evidence(workload, config, self.drive_config)
        self._parked = np.empty(0, np.int32)
        self._noted_steps, self._noted_busy_ms, self._noted_refused_ms = 0, 0.0, 0.0
        self._noted_clock_ms = self._more_block_ms = 0.0
        self._set_device(start.device_blocks)
        self._set_host(start.host_blocks)

    @property
    def moved_blocks(self) -> int:
        """No block is moved: any one can be parked."""
        return 0

    @property
    def device_blocks(self) -> int:
        """Blocks that the engine has now, the null block not counted."""
        return int(self.engine.config.num_blocks) - 1

    def mean_device_blocks(self) -> float:
        """Return the mean of `device_blocks` over the simulated clock so far."""
        clock_ms = float(self._progress.state.clock_ms)
        if not clock_ms:
            return float(self.device_blocks)
        return self._start.device_blocks + self._more_so_far(clock_ms) / clock_ms

    def _more_so_far(self, clock_ms: float) -> float:
        """Return how many blocks more than at the start there were, summed over the clock.

        Not how many there were: what never changed has exactly its size as its mean.
        """
        more = self.device_blocks - self._start.device_blocks
        return self._more_block_ms + more * (clock_ms - self._noted_clock_ms)

    def listen(self, on_events: Callable[[Chunk], None]) -> None:
        """Refuse: no event tells that a pool has become larger or smaller. Raises: InputError."""
        raise InputError(
            "a recording cannot say that the pool has changed its size",
            field="memory_budget",
            remedy="leave out --events and --html, or the budget",
        )

    def slices(self, *, max_steps: int = 1 << 16, max_tokens: int = 1 << 24) -> Iterator[None]:
        """Run slice after slice, looking at the division in between, until done or blocked."""
        while True:
            steps = min(max_steps, _BETWEEN_LOOKS - self.steps % _BETWEEN_LOOKS)
            if next(super().slices(max_steps=steps, max_tokens=max_tokens), True):
                return
            if self.steps % _BETWEEN_LOOKS == 0 and self.steps > self._noted_steps:
                self._note()
                if self.loop.due(int(self._progress.totals.admitted_new)):
                    self.look()
            yield

    def look(self) -> None:
        """Look at the division now, move a step of the budget if it pays, write down what is seen.

        Between slices only.
        """
        self._evidence.admitted(~np.isnan(self._progress.times["first_scheduled_ms"]))
        self.loop.look(int(self._progress.totals.admitted_new))
        self.clock_s.append(float(self._progress.state.clock_ms) / 1e3)

    def value_s(self, division: Division) -> float:
        """Return the engine's seconds that a division would have saved; see `TraceEvidence`."""
        return self._evidence.value_s(division.device_blocks, division.host_blocks)

    def divide(self, now: Division, wanted: Division) -> bool:
        """Give one part less and the other more; False when the device's blocks are in use."""
        less = self.device_blocks - wanted.device_blocks
        if less > int(self.engine.pool.info.free):
            return False
        self._set_device(wanted.device_blocks)
        self._set_host(wanted.host_blocks)
        return True

    def looked(self, division: Division, *, moved: bool) -> None:
        """Let what was seen so far weigh half at the next look."""
        self._evidence.fade()

    def said(self) -> dict[str, Any]:
        """Return the JSON's `hybrid`: the budget, its division from start to end, the log."""
        budget, loop, tuning = self.budget, self.loop, self.budget.tuning
        return {
            "budget_bytes": budget.budget_bytes,
            "block_bytes": budget.block_bytes,
            "device_price": budget.device_price,
            "interval": None if tuning is None else tuning.interval,
            "step_share": None if tuning is None else tuning.step_share,
            "least_gain": None if tuning is None else tuning.least_gain,
            "least_device_blocks": loop.space.least.device_blocks,
            "start": _blocks(self._start),
            "end": _blocks(loop.division),
            "mean_device_blocks": self.mean_device_blocks(),
            "looks": loop.count,
            "moves": loop.moves,
            "log": [
                {
                    "admissions": look.admissions,
                    "simulated_s": clock_s,
                    **_blocks(look.after),
                    "value_s": look.value_s,
                    "best_s": look.best_s,
                    "moved": look.moved,
                    "why": look.why,
                }
                for look, clock_s in zip(loop.looks, self.clock_s, strict=True)
            ],
        }

    def check(self) -> None:
        """Check every invariant, the budget too; O(blocks + requests). Raises InvariantError."""
        check_engine(self.engine, parked=self._parked.tolist())
        tier = self.engine.pool.tier
        assert tier is not None
        now = Division(self.device_blocks, int(tier.store.info.capacity), 0)
        if now != self.loop.division or not self.loop.space.holds(now):
            raise InvariantError(f"budget: {now} is not the division, or beyond the budget")
        if int(tier.store.info.used) > now.host_blocks:
            raise InvariantError("budget: the host tier holds more than its share")
        if now.device_blocks + self._parked.size != self.config.num_blocks - 1:
            raise InvariantError("budget: a block is neither the engine's nor parked")

    def _set_aside(self, rows: NDArray[np.bool_]) -> None:
        """Never serve the requests that the device does not hold as it starts."""
        requests = self.engine.requests
        more = np.flatnonzero(rows & (requests["status"] != REJECTED))
        requests["status"][more] = REJECTED
        self._rejected += more.tolist()

    def _note(self) -> None:
        """Tell the loop of the steps since it was told last."""
        state = self._progress.state
        busy_ms = float(state.busy_ms) - self._noted_busy_ms
        refused_ms = float(state.refused_ms) - self._noted_refused_ms
        self._evidence.stepped(
            self.steps - self._noted_steps,
            min(1.0, refused_ms / busy_ms) if busy_ms > 0 else 0.0,
            self.device_blocks - int(self.engine.pool.info.free),
            self.device_blocks,
        )
        self._more_block_ms = self._more_so_far(float(state.clock_ms))
        self._noted_steps, self._noted_clock_ms = self.steps, float(state.clock_ms)
        self._noted_busy_ms, self._noted_refused_ms = float(state.busy_ms), float(state.refused_ms)

    def _set_device(self, blocks: int) -> None:
        """Park or give back blocks until the engine has `blocks`; the free ones suffice."""
        pool, config = self.engine.pool, self.engine.config
        less = self.device_blocks - blocks
        if less > 0:
            taken = np.empty(less, np.int32)
            entries.get_new_blocks(pool, less, taken)
            pool.info.allocations -= less  # nobody's
            self._parked = np.concatenate((self._parked, taken))
        elif less < 0:
            entries.free_blocks(pool, self._parked[less:].copy())
            self._parked = self._parked[:less].copy()
        config.num_blocks = blocks + 1
        config.watermark_blocks = int(self.config.watermark * (blocks + 1))

    def _set_host(self, blocks: int) -> None:
        tier = self.engine.pool.tier
        assert tier is not None
        tier.store.info.capacity = blocks
        tier_entries.shrink(tier.store, blocks)


def _evidence(workload: Workload, config: EngineConfig, drive: DriveConfig) -> TraceEvidence:
    """Return what is known of a trace before anybody came: nothing but who shares with whom."""
    (spec,) = config.groups
    assert isinstance(spec, FullAttentionSpec)  # the host tier takes no other
    runs = None
    if workload.prefix_known:
        runs = reuse_runs(request_paths(workload, spec.block_size, with_outputs=True))
    recompute_s = spec.block_size * drive.step_ms_per_ktok / 1e6
    return TraceEvidence(
        runs,
        recompute_s=recompute_s,
        restore_s=min(config.host_ms_per_block / 1e3, recompute_s),
        step_s=drive.step_ms_base / 1e3,
    )


def _blocks(division: Division) -> dict[str, int]:
    return {"device_blocks": division.device_blocks, "host_blocks": division.host_blocks}
