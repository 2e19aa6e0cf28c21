"""Defragmenting by itself: at an interval, above a threshold, when it pays.

Owns: `DefragmentationLoop` and `FragmentationAwareManager`, a manager that runs one. Leaves to
others: whether it pays (`deciding`), the moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kvatlas.defrag.deciding import Costs, Decision
from kvatlas.defrag.goals import Goal
from kvatlas.defrag.memory_defragmenter import MemoryDefragmenter, Storage
from kvatlas.defrag.outcome import Report
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kv_cache_manager import KVCacheManager
from kvatlas.errors import InputError

__all__ = ["DefragmentationLoop", "FragmentationAwareManager", "Look"]

_KEPT = 256


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one look at the pool led to.

    Attributes:
        step: when.
        breaks: places in block tables where the next block did not follow.
        decision: why it was done or not; None below the threshold, where nothing was planned.
        report: what was moved, None when nothing was.
    """

    step: int
    breaks: int
    decision: Decision | None
    report: Report | None


class DefragmentationLoop:
    """Looks every `interval_steps` steps, plans above `least_breaks`, and moves what pays.

    Args:
        defragmenter: of whom.
        goal, costs: what for, and what things cost.
        interval_steps: steps from one look to the next; may be changed at any time.
        least_breaks: fewer breaks in the block tables are not worth planning; may be changed.
        verify: whether each run is verified.

    Attributes:
        looks: the latest 256, oldest first.

    Raises:
        InputError: an interval below 1, a threshold below 0.
    """

    def __init__(
        self,
        defragmenter: MemoryDefragmenter,
        goal: Goal,
        costs: Costs,
        *,
        interval_steps: int = 1000,
        least_breaks: int = 0,
        verify: bool = False,
    ) -> None:
        if interval_steps < 1:
            raise InputError("must be at least 1", field="interval_steps", value=interval_steps)
        if least_breaks < 0:
            raise InputError("must be at least 0", field="least_breaks", value=least_breaks)
        self.defragmenter, self.goal, self.costs = defragmenter, goal, costs
        self.interval_steps, self.least_breaks = interval_steps, least_breaks
        self.verify = verify
        self.looks: deque[Look] = deque(maxlen=_KEPT)
        self._step = self._last = 0

    def step(self) -> Report | None:
        """Say that a step begins; return the report if blocks were moved. O(1) between looks."""
        self._step += 1
        if self._step - self._last < self.interval_steps:
            return None
        self._last = self._step
        return self.look()

    def look(self) -> Report | None:
        """Look now: O(N + table cells), and the moves if they pay."""
        condition = self.defragmenter.detect()
        breaks = condition.table_runs - condition.tables
        decision = report = None
        if breaks >= self.least_breaks:
            plan = self.defragmenter.plan(self.goal)
            if plan is not None:
                decision = self.defragmenter.weigh(plan, self.costs)
                if decision.worth and plan.moves.count:
                    report = self.defragmenter.run(plan, verify=self.verify, costs=self.costs)
        self.looks.append(Look(self._step, breaks, decision, report))
        return report


class FragmentationAwareManager(KVCacheManager):
    """A `KVCacheManager` that defragments itself when a scheduler step begins and it pays.

    `new_step_starts` is where blocks move: ask for block tables after it, or translate what you
    keep in `on_moved`.

    Args:
        config, max_num_requests, secret: as for `KVCacheManager`.
        goal, costs, interval_steps, least_breaks: as for `DefragmentationLoop`.
        storage, in_flight: as for `MemoryDefragmenter`.
        on_moved: called with each report.

    Attributes:
        loop: the loop, with its looks.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        goal: Goal,
        costs: Costs,
        storage: Storage | Sequence[Storage] | None = None,
        in_flight: Callable[[], Iterable[int]] | None = None,
        on_moved: Callable[[Report], None] | None = None,
        interval_steps: int = 1000,
        least_breaks: int = 0,
        max_num_requests: int = 4096,
        secret: bytes | None = None,
    ) -> None:
        super().__init__(config, max_num_requests=max_num_requests, secret=secret)
        self.loop = DefragmentationLoop(
            MemoryDefragmenter(self, storage, in_flight),
            goal,
            costs,
            interval_steps=interval_steps,
            least_breaks=least_breaks,
        )
        self._on_moved = on_moved

    def new_step_starts(self) -> None:
        """Say that a scheduler step begins, and move blocks if that is due and pays."""
        super().new_step_starts()
        report = self.loop.step()
        if report is not None and self._on_moved is not None:
            self._on_moved(report)
