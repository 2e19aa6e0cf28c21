"""Capacity curves: how much memory buys how much hit rate, exactly and at every capacity.

Data flows one way: `paths` (requests as paths of blocks) -> `reuse_runs` (one pass: who used which
piece last) -> `lru` (the whole curve) and `optimum` (the best of any policy) -> `study` (all bounds
side by side). A prefix cache alone, requests one after another; no engine is involved.
"""

from kvatlas.measure.curves.capacities import knee, spread
from kvatlas.measure.curves.hit_curve import MOST_BLOCKS, HitCurve
from kvatlas.measure.curves.lru import LruCurve, lru_curve
from kvatlas.measure.curves.optimum import Optimum
from kvatlas.measure.curves.paths import Paths, request_paths
from kvatlas.measure.curves.reuse_runs import ReuseRuns, reuse_runs
from kvatlas.measure.curves.study import CapacityStudy, Ceiling, CurveTable

__all__ = [
    "MOST_BLOCKS",
    "CapacityStudy",
    "Ceiling",
    "CurveTable",
    "HitCurve",
    "LruCurve",
    "Optimum",
    "Paths",
    "ReuseRuns",
    "knee",
    "lru_curve",
    "request_paths",
    "reuse_runs",
    "spread",
]
