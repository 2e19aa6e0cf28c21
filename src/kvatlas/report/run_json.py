"""The report on a run's events as JSON.

Owns: the keys (docs/reference/report-json.md). Leaves to others: the figures; how bytes are written
(`replay_json`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.curve_json import curve_dict
from kvatlas.report.replay_json import json_bytes
from kvatlas.report.run_document import Finding, Histogram, RunDocument, Table, TimeSeries

__all__ = ["SCHEMA", "run_dict", "run_json"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


def run_json(document: RunDocument) -> bytes:
    """Return the document as JSON; what is not known is null, never 0."""
    return json_bytes(run_dict(document))


def run_dict(document: RunDocument) -> dict[str, Any]:
    """Return the documented JSON form, in plain types. The block map's frames are not in it."""
    return {
        "schema": SCHEMA,
        "kvatlas": document.version,
        "title": document.title,
        "engine": document.engine,
        "producer": document.producer,
        "partial": bool(document.partial),
        "partial_reason": document.partial or None,
        "config": dict(document.config),
        "workload": dict(document.workload),
        "findings": [_finding(finding) for finding in document.findings],
        "measurements": dict(document.figures.values),
        "unavailable": dict(document.figures.unavailable),
        "tables": {name: _table(table) for name, table in document.tables.items()},
        "histograms": {name: _histogram(each) for name, each in document.histograms.items()},
        "series": _series(document.series),
        "capacity": _capacity(document),
        "notes": list(document.notes),
    }


def _capacity(document: RunDocument) -> dict[str, Any] | None:
    """Return the curve; the engine's point on it is the run itself, whose measurements are here."""
    if document.capacity is None:
        return None
    return {
        name: value
        for name, value in curve_dict(document.capacity).items()
        if name not in ("schema", "kvatlas", "engine", "timing")
    }


def _finding(finding: Finding) -> dict[str, Any]:
    said = asdict(finding)
    if finding.effect is not None:
        said["effect"]["others"] = [
            {"figure": name, "before": before, "after": after}
            for name, before, after in finding.effect.others
        ]
    return said


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[_cell(cell) for cell in row] for row in table.rows],
        "note": table.note,
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "title": histogram.title,
        "unit": histogram.unit,
        "edges": _numbers(histogram.edges),
        "counts": _numbers(histogram.counts),
        "note": histogram.note,
    }


def _series(series: TimeSeries) -> dict[str, Any]:
    return {
        "start_s": _numbers(series.start_s),
        "end_s": _numbers(series.end_s),
        "columns": {name: _numbers(values) for name, values in series.columns.items()},
    }


def _numbers(values: NDArray[np.float64]) -> list[float | int | None]:
    """Return plain numbers, whole ones without a point; JSON knows neither NaN nor infinity."""
    return [_cell(value) for value in np.asarray(values, np.float64).tolist()]


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value
