"""Fragmentation of the KV pool: runs of free blocks, runs in block tables, and who breaks them.

Owns: the course over a recording (`FragmentationTracker`), one moment (`BlockLayoutAnalyzer`),
and who and what it costs (`FragmentationDetector`), by the formulas of the metrics page: EFI, UFSI,
runs per request. Leaves to others: wasted slots (`kvatlas.measure.waste`), views.
"""

from kvatlas.measure.fragmentation.detector import Detection, FragmentationDetector, Hotspot
from kvatlas.measure.fragmentation.layout import BlockLayoutAnalyzer, Layout, RunSet, TableRuns
from kvatlas.measure.fragmentation.patterns import Pattern, find_pattern
from kvatlas.measure.fragmentation.reading import Reading, read_honestly
from kvatlas.measure.fragmentation.result import (
    FragmentationResult,
    FragmentationSeries,
    RequestRuns,
    RunShape,
    put_fragmentation,
)
from kvatlas.measure.fragmentation.tracker import FragmentationTracker
from kvatlas.runs import RunIndex

__all__ = [
    "BlockLayoutAnalyzer",
    "Detection",
    "FragmentationDetector",
    "FragmentationResult",
    "FragmentationSeries",
    "FragmentationTracker",
    "Hotspot",
    "Layout",
    "Pattern",
    "Reading",
    "RequestRuns",
    "RunIndex",
    "RunSet",
    "RunShape",
    "TableRuns",
    "find_pattern",
    "put_fragmentation",
    "read_honestly",
]
