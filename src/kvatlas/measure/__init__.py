"""Figures: what the counts, sums, times and events of a run mean, by the metrics page's names.

Owns: formulas, units, and saying why a figure is not there. Knows neither the engine nor a view:
what it measures may come from a replay or from a live server. The analysers of events load lazily:
their kernels need Numba. Those of layout and free runs are in `kvatlas.measure.fragmentation`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvatlas.measure.figures import Figures
from kvatlas.measure.replay import Conditions, Outcome, measure_ceiling, measure_replay

if TYPE_CHECKING:
    from kvatlas.measure.churn import Churn
    from kvatlas.measure.contention import Contention
    from kvatlas.measure.course import Course
    from kvatlas.measure.life import BlockLife
    from kvatlas.measure.misses import MissAttribution
    from kvatlas.measure.pollution import Pollution
    from kvatlas.measure.reuse import ReuseAnalyzer
    from kvatlas.measure.run import RunMeasurement
    from kvatlas.measure.temporal import TemporalUse

_HOME = {
    "BlockLife": "life",
    "Churn": "churn",
    "Contention": "contention",
    "Course": "course",
    "MissAttribution": "misses",
    "Pollution": "pollution",
    "ReuseAnalyzer": "reuse",
    "RunMeasurement": "run",
    "TemporalUse": "temporal",
}

__all__ = [
    "BlockLife",
    "Churn",
    "Conditions",
    "Contention",
    "Course",
    "Figures",
    "MissAttribution",
    "Outcome",
    "Pollution",
    "ReuseAnalyzer",
    "RunMeasurement",
    "TemporalUse",
    "measure_ceiling",
    "measure_replay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
