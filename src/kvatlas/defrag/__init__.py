"""Moving blocks: detect, plan, copy, rewrite every book, verify, report.

`MemoryDefragmenter` does it; the goals say what for; `should_defragment` says whether it pays. The
names load lazily: the engine's kernels need Numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.defrag.condition import Condition
    from kvatlas.defrag.deciding import Costs, Decision, Prospect, should_defragment
    from kvatlas.defrag.fragmentation_aware import (
        DefragmentationLoop,
        FragmentationAwareManager,
        Look,
    )
    from kvatlas.defrag.goals import Compact, ContiguousTables, FreeRun, Goal, ReleasePages
    from kvatlas.defrag.memory_defragmenter import MemoryDefragmenter, Storage
    from kvatlas.defrag.outcome import Plan, Report

_HOME = {
    "Compact": "goals",
    "Condition": "condition",
    "ContiguousTables": "goals",
    "Costs": "deciding",
    "Decision": "deciding",
    "DefragmentationLoop": "fragmentation_aware",
    "FragmentationAwareManager": "fragmentation_aware",
    "FreeRun": "goals",
    "Goal": "goals",
    "Look": "fragmentation_aware",
    "MemoryDefragmenter": "memory_defragmenter",
    "Plan": "outcome",
    "Prospect": "deciding",
    "ReleasePages": "goals",
    "Report": "outcome",
    "Storage": "memory_defragmenter",
    "should_defragment": "deciding",
}

__all__ = [
    "Compact",
    "Condition",
    "ContiguousTables",
    "Costs",
    "Decision",
    "DefragmentationLoop",
    "FragmentationAwareManager",
    "FreeRun",
    "Goal",
    "Look",
    "MemoryDefragmenter",
    "Plan",
    "Prospect",
    "ReleasePages",
    "Report",
    "Storage",
    "should_defragment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
