"""Which free block ids a request gets: placements behind one contract.

`PLACEMENTS` names them; `EngineConfig.placement` runs one in the engine. Every block is as good as
another for a hit, so placement decides only how many *runs* of consecutive ids a block table has,
and which blocks stay free side by side. `FirstFitAllocator`, `BestFitAllocator` and
`BuddyAllocator` are the placements by address without an engine. The names load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.placement.allocators import BestFitAllocator, BuddyAllocator, FirstFitAllocator
    from kvatlas.placement.registry import PLACEMENTS, PlacementPolicy, placement_policy

_HOME = {
    "BestFitAllocator": "allocators",
    "BuddyAllocator": "allocators",
    "FirstFitAllocator": "allocators",
    "PLACEMENTS": "registry",
    "PlacementPolicy": "registry",
    "placement_policy": "registry",
}

__all__ = [
    "PLACEMENTS",
    "BestFitAllocator",
    "BuddyAllocator",
    "FirstFitAllocator",
    "PlacementPolicy",
    "placement_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
