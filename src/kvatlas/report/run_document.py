"""What a report on a run's events shows, frozen and measured; every view gets the same.

Owns: the shapes. Leaves to others: measuring (`kvatlas.measure`), wording of figures, each view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure import Figures
from kvatlas.report.curve_document import CurveDocument

__all__ = ["Effect", "Finding", "Histogram", "RunDocument", "Table", "TimeSeries"]

F64 = NDArray[np.float64]

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """K intervals one after the other: (K,) each; NaN where an interval saw nothing.

    Attributes:
        start_s, end_s: the intervals' bounds on the run's clock.
        columns: by name; `used`, `evictable`, `empty` (blocks, mean over the interval),
            `waste` (internal, share of the slots held), `hit_rate` (first admissions),
            `hit_rate_so_far`, `running`, `waiting` (requests, mean), `preemptions`, `failures`,
            `evictions` (counts), `efi`, `efi_empty`, `free_runs` (at the interval's end).
    """

    start_s: F64
    end_s: F64
    columns: Mapping[str, F64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bin.

    Attributes:
        title, unit: what is counted, and of what the edges are.
        edges: (B + 1,) rising.
        counts: (B,).
        note: what a reader must know, such as censoring.
    """

    title: str
    unit: str
    edges: F64
    counts: F64
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under named columns, already sorted; text may come from a trace."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change did when it was replayed.

    Attributes:
        figure: the measurement's name; before, after: its values.
        command: the flags of the replay that measured it.
        others: further figures (name, before, after) that moved.
    """

    figure: str
    before: float
    after: float
    command: str
    others: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a reader should know first.

    Attributes:
        rule: the name of the rule that fired.
        tone: `act` (something can be gained), `watch`, or `good` (leave it alone).
        title: one sentence.
        evidence: sentences with the figures behind it.
        change: the flag and its value that would help, such as `--blocks 40000`; None when nothing.
        effect: what the change did in a replay; None when it was not or could not be measured.
        effect_note: why there is no effect, or what to think of it.
    """

    rule: str
    tone: Literal["act", "watch", "good"]
    title: str
    evidence: tuple[str, ...]
    change: str | None = None
    effect: Effect | None = None
    effect_note: str = ""


@dataclass(frozen=True, slots=True)
class RunDocument:
    """All there is to say about a run.

    Attributes:
        title: the trace's name and the engine, for a heading.
        version: kvatlas's.
        engine: whose rules.
        producer: `replay` or `live`.
        config, workload: as in the JSON of a replay.
        partial: why it is only a part, empty when it is whole.
        figures: measurements by name.
        series: the course over time.
        histograms: by name: `free_runs`, `lifetime`, `idle`, `reuse_gap`, `runs_per_request`.
        tables: by name: `waste_by_request`, `runs_by_request`, `preempted`, `prefixes`,
            `pollution_by_session`, `stalls`, `failures`, `never_served`.
        findings: the verdict, the most important first.
        capacity: what other pool sizes would hit (`curve_document.CurveDocument`), None without.
        frames: what the block map shows (`kvatlas.measure.frames.BlockFrames`), None without.
        notes: sentences that a reader must see, such as what external fragmentation costs here.
    """

    title: str
    version: str
    engine: str
    producer: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    partial: str
    figures: Figures
    series: TimeSeries
    histograms: Mapping[str, Histogram]
    tables: Mapping[str, Table]
    findings: tuple[Finding, ...]
    capacity: CurveDocument | None = None
    frames: Any = None
    notes: tuple[str, ...] = field(default=())
