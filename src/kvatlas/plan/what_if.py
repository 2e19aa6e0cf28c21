"""Replaying one workload under changed settings, within a budget.

Owns: `WhatIf`: one loaded workload, one replay per distinct change, the budget of replays and
seconds, stopping between slices. Leaves to others: which changes (`rules`), and what their figures
mean (`compare`, `effects`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kvatlas.engine import Replay
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.measure import Figures, measure_replay
from kvatlas.plan.setup import Setup
from kvatlas.workload import Workload

__all__ = ["Budget", "Trial", "WhatIf", "replay_figures"]

_SLICE_STEPS = 1 << 14 if COMPILED else 64


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent on trying changes: replays (the unchanged one counts) and seconds."""

    replays: int = 8
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A replay under changed settings: its figures, or why there are none."""

    setup: Setup
    figures: Figures | None
    why_not: str = ""


class _StoppedError(Exception):
    """A replay was given up; the text says why."""


class WhatIf:
    """Replays `workload` under settings that differ from `setup`, each at most once.

    Memory: the workload is shared, and one engine lives at a time. A replay that runs into the
    budget's end, or is stopped, is given up and counts as not made.

    Args:
        workload: what ran.
        setup: how it ran.
        before: its figures, when they were measured by `measure_replay`; else they are replayed.
        budget: how much may be spent.
        on_progress: called between slices with replays begun so far, replays at most, and the
            flags that are being tried.
        should_stop: asked between slices; True ends all trying (Ctrl-C).
        now_s: the clock of the budget.
    """

    def __init__(
        self,
        workload: Workload,
        setup: Setup,
        *,
        before: Figures | None = None,
        budget: Budget | None = None,
        on_progress: Callable[[int, int, str], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workload, self.setup = workload, setup
        self.budget = budget or Budget()
        self._on_progress, self._should_stop, self._now_s = on_progress, should_stop, now_s
        self._ends_s = now_s() + self.budget.seconds
        self._begun = 0
        self._trials: dict[tuple[tuple[str, str], ...], Trial] = {}
        if before is not None:
            self._trials[_key(setup)] = Trial(setup, before)

    def before(self) -> Trial:
        """Return the figures of the unchanged settings."""
        return self.trial(self.setup)

    def trial(self, setup: Setup) -> Trial:
        """Return the figures under `setup`, replaying it unless that was done before."""
        try:
            key = _key(setup)
            if key not in self._trials:
                self._trials[key] = Trial(setup, self._replayed(setup))
            return self._trials[key]
        except InputError as error:
            return Trial(setup, None, str(error))
        except _StoppedError as stopped:
            return Trial(setup, None, f"not replayed: {stopped}")

    def _replayed(self, setup: Setup) -> Figures:
        if self._begun >= self.budget.replays:
            raise _StoppedError(f"the limit of {self.budget.replays} replays was reached")
        flags = setup.change_from(self.setup)
        self._go_on(flags)
        replay = setup.replay(self.workload)
        if self._begun == 0:
            # Compiling, once per version of kvatlas, is not what the budget is for.
            started_s = self._now_s()
            next(replay.slices(max_steps=0), None)
            self._ends_s += self._now_s() - started_s
        self._begun += 1
        for _ in replay.slices(max_steps=_SLICE_STEPS):
            self._go_on(flags)
        return replay_figures(replay, setup)

    def _go_on(self, flags: str) -> None:
        """Say what is being tried; give it up when time is over or somebody wants to stop."""
        if self._on_progress is not None:
            self._on_progress(self._begun, self.budget.replays, flags)
        if self._should_stop is not None and self._should_stop():
            raise _StoppedError("interrupted")
        if self._now_s() >= self._ends_s:
            raise _StoppedError(f"the time for it ({self.budget.seconds:g} s) was used up")


def replay_figures(replay: Replay, setup: Setup) -> Figures:
    """Return the measurements of a finished replay, and two of its decisions beside them."""
    result = replay.result()
    figures = measure_replay(result, replay.workload, setup.conditions())
    for name in ("finished", "scheduled_tokens"):
        figures.put(f"decisions.{name}", int(result.decisions[name]))
    return figures


def _key(setup: Setup) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(setup.flags().items()))
