"""How a replay is asked for and what it answers: frozen, and the same for every engine profile.

Owns: `DriveConfig` and `ReplayResult`. Leaves to others: running (`replay`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.settings import DriveSettings
from kvatlas.errors import InputError

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DriveConfig(DriveSettings):
    """How requests come and how long a step takes; validated on creation. Raises: InputError."""

    def __post_init__(self) -> None:
        if self.arrivals not in ("backlog", "timed"):
            raise InputError(
                "unknown arrivals",
                field="arrivals",
                value=self.arrivals,
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
                "a step that takes no time never reaches the next arrival",
                field="step_ms_base",
                value=0.0,
                remedy="give step_ms_base or step_ms_per_ktok a positive value",
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
