"""The pass over a trace, the table and the replays, with progress and Ctrl-C.

Owns: what is kept when somebody presses Ctrl-C, and what is said about it. Leaves to others: the
figures (`kvatlas.measure.curves`, `kvatlas.plan.capacity`), the order of things (`curve_run`,
`policies_run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kvatlas.cli.capacity_input import naming_capacity_flags
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine

if TYPE_CHECKING:
    from kvatlas.engine import DriveConfig, EngineConfig
    from kvatlas.measure.curves import CapacityStudy, CurveTable
    from kvatlas.report.curve_document import EnginePoint
    from kvatlas.workload import Workload

__all__ = ["Stopped", "make_table", "replay_engine", "walk"]

_CHUNK = 32


class Stopped:
    """Ctrl-C during a command that goes on with what it has; `why` is empty until then."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.why = ""

    def asked(self) -> bool:
        """Return whether somebody wants it to stop; asked between slices of work."""
        return self._interrupts.wanted

    def note(self, why: str) -> None:
        """Note what is missing; later stages that are short still run."""
        self.why = self.why or f"interrupted {why}"
        self._interrupts.wanted = False

    def __bool__(self) -> bool:
        return bool(self.why)


def walk(
    workload: Workload,
    block_size: int,
    stopped: Stopped,
    *,
    count_partial: bool = False,
    with_outputs: bool = False,
) -> CapacityStudy:
    """Return the study of a trace, or of the requests before Ctrl-C. Raises: InputError."""
    from kvatlas.measure.curves import CapacityStudy

    rows = workload.num_requests
    with naming_capacity_flags(), ProgressLine("walking the trace", rows, "requests") as progress:
        study = CapacityStudy(
            workload,
            block_size,
            count_partial=count_partial,
            with_outputs=with_outputs,
            on_progress=progress.update,
            should_stop=stopped.asked,
        )
    if study.runs.num_requests < rows:
        done = study.runs.num_requests
        stopped.note(f"after {done:,} of {rows:,} requests; every figure is of these")
    return study


def make_table(study: CapacityStudy, capacities: Sequence[int], stopped: Stopped) -> CurveTable:
    """Return the curve at `capacities`, or at those done before Ctrl-C."""
    parts = []
    with ProgressLine("finding the optimum", len(capacities), "capacities") as progress:
        for start in range(0, max(1, len(capacities)), _CHUNK):
            chunk = capacities[start : start + _CHUNK]
            try:
                parts.append(study.table(chunk, stopped.asked))
            except KeyboardInterrupt:
                stopped.note(f"after {start:,} of {len(capacities):,} capacities")
                break
            progress.update(start + len(chunk))
    return _joined(parts or [study.table([])])


def _joined(parts: Sequence[CurveTable]) -> CurveTable:
    first = parts[0]
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(first)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return replace(first, **columns)


def replay_engine(
    workload: Workload,
    capacities: Sequence[int],
    config: EngineConfig,
    drive: DriveConfig,
    stopped: Stopped,
    what: str = "replaying",
) -> tuple[EnginePoint, ...]:
    """Return the engine's points at `capacities`, or those done before Ctrl-C."""
    from kvatlas.plan.capacity import engine_points

    rows = workload.num_requests
    total = rows * len(capacities)
    with naming_capacity_flags(), ProgressLine(what, total, "requests") as progress:
        points = engine_points(
            workload,
            capacities,
            config,
            drive,
            on_progress=lambda done, finished: progress.update(done * rows + finished),
            should_stop=stopped.asked,
        )
    if len(points) < len(capacities):
        stopped.note(f"after {len(points):,} of {len(capacities):,} replays")
    return points
