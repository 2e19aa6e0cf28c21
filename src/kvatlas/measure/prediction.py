"""A replay of a recorded load held against what really happened, over the run's clock.

Owns: both courses on one axis and the error between them. Leaves to others: either course
(`course`), the load that was replayed and how long its steps take (`kvatlas.plan`), views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.course import CourseResult

__all__ = ["Compared", "Prediction", "predict"]

F64 = NDArray[np.float64]

INTERVALS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One quantity over the intervals, recorded and predicted.

    Attributes:
        name: `usage` (share of the pool, mean over the time in steps), `hit_rate` (of the tokens
            asked for up to there), `preemptions` (up to there).
        recorded, predicted: (K,), NaN where nothing is known.
        mean_error, worst_error: of the absolute difference, where both are known.
    """

    name: str
    recorded: F64
    predicted: F64

    @property
    def mean_error(self) -> float | None:
        """Mean absolute difference; None where the two never meet."""
        off = self._off()
        return float(off.mean()) if off.size else None

    @property
    def worst_error(self) -> float | None:
        """Largest absolute difference."""
        off = self._off()
        return float(off.max()) if off.size else None

    def _off(self) -> F64:
        off = np.abs(self.recorded - self.predicted)
        return np.asarray(off[np.isfinite(off)], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a replay says of a recorded run.

    Attributes:
        bounds_s: (K + 1,) of the intervals, seconds since the first arrival.
        compared: quantity by quantity.
        totals: recorded and predicted value of single figures, by name.
        step_time: the fit of the steps' times and its error, None where none was made.
        changed: settings that differ from the recorded ones: then it is a what-if and not a test.
    """

    bounds_s: F64
    compared: tuple[Compared, ...]
    totals: dict[str, tuple[float | None, float | None]]
    step_time: Mapping[str, float | int | None] | None
    changed: tuple[str, ...] = ()

    def said(self) -> dict[str, Any]:
        """Return it as the JSON of `kvatlas replay` says it."""
        return {
            "bounds_s": self.bounds_s.tolist(),
            "recorded": {each.name: _numbers(each.recorded) for each in self.compared},
            "predicted": {each.name: _numbers(each.predicted) for each in self.compared},
            "error": {
                each.name: {"mean": each.mean_error, "worst": each.worst_error}
                for each in self.compared
            },
            "totals": {
                name: {"recorded": recorded, "predicted": predicted}
                for name, (recorded, predicted) in self.totals.items()
            },
            "step_time": None if self.step_time is None else dict(self.step_time),
            "changed": list(self.changed),
        }


def predict(
    recorded: CourseResult,
    predicted: CourseResult,
    *,
    first_ms: float,
    end_ms: float,
    step_time: Mapping[str, float | int | None] | None = None,
    changed: tuple[str, ...] = (),
) -> Prediction:
    """Hold a replay against a recording. O(looks).

    Args:
        recorded, predicted: the courses; the replay's clock begins with the first arrival.
        first_ms, end_ms: the recording's clock at the first arrival and at its end.
        step_time, changed: see `Prediction`.
    """
    span_s = max(end_ms - first_ms, float(predicted.sums["clock_ms"][-1]), 1e-9) / 1e3
    bounds_s = np.linspace(0.0, span_s, INTERVALS + 1)
    columns = (_columns(recorded, bounds_s, first_ms / 1e3), _columns(predicted, bounds_s, 0.0))
    return Prediction(
        bounds_s=bounds_s,
        compared=tuple(
            Compared(name, columns[0][name], columns[1][name])
            for name in ("usage", "hit_rate", "preemptions")
        ),
        totals={
            name: (_totals(recorded)[name], _totals(predicted)[name]) for name in _totals(recorded)
        },
        step_time=step_time,
        changed=changed,
    )


def _columns(course: CourseResult, bounds_s: F64, shift_s: float) -> dict[str, F64]:
    shifted = bounds_s + shift_s
    found = course.columns(shifted)
    clock = course.sums["clock_ms"]
    moments = shifted[1:] * 1e3
    # Behind its end a course says nothing.
    over = moments > float(clock[-1]) + float(np.diff(moments[:2]).sum())
    so_far = np.interp(moments, clock, course.sums["preemptions"])
    usage = found["used"] / course.usable_blocks
    return {
        "usage": usage,
        "hit_rate": np.where(over, np.nan, found["hit_rate_so_far"]),
        "preemptions": np.where(over, np.nan, so_far - float(course.sums["preemptions"][0])),
    }


def _totals(course: CourseResult) -> dict[str, float | None]:
    """Return single figures of a whole course."""
    last = {name: float(values[-1]) for name, values in course.sums.items()}
    first_ms = float(course.sums["clock_ms"][0])
    busy = last["busy_ms"]
    return {
        "token_hit_rate": last["hits"] / last["queries"] if last["queries"] else None,
        "mean_usage": last["used_block_ms"] / busy / course.usable_blocks if busy else None,
        "mean_running": last["running_ms"] / busy if busy else None,
        "preemptions": last["preemptions"],
        "evictions": last["evictions"],
        "scheduled_tokens": last["tokens"],
        "clock_s": (last["clock_ms"] - first_ms) / 1e3,
    }


def _numbers(values: F64) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
