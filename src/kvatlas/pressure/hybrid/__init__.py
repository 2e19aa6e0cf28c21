"""One budget over device blocks, host tier and object cache, divided by measured marginal hits.

Owns: `HybridAllocator` and its parts. Leaves to others: each memory by itself (`kvatlas.engine`,
`kvatlas.tiers`, `kvatlas.storage.arena`). The names load lazily: the kernels need Numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.pressure.hybrid.block_tiers import Admitted, BlockTiers
    from kvatlas.pressure.hybrid.budgeted_replay import BudgetedReplay
    from kvatlas.pressure.hybrid.device_blocks import DeviceBlocks
    from kvatlas.pressure.hybrid.hybrid_allocator import HybridAllocator, HybridCounts
    from kvatlas.pressure.hybrid.loop import TuningLoop
    from kvatlas.pressure.hybrid.memory_budget import MemoryBudget
    from kvatlas.pressure.hybrid.object_cache import ObjectCache, ObjectCounts
    from kvatlas.pressure.hybrid.stack_meter import StackMeter
    from kvatlas.pressure.hybrid.tuning import Division, Look, Prices, Tuning

_HOME = {
    "Admitted": "block_tiers",
    "BlockTiers": "block_tiers",
    "BudgetedReplay": "budgeted_replay",
    "DeviceBlocks": "device_blocks",
    "Division": "tuning",
    "HybridAllocator": "hybrid_allocator",
    "HybridCounts": "hybrid_allocator",
    "Look": "tuning",
    "MemoryBudget": "memory_budget",
    "ObjectCache": "object_cache",
    "ObjectCounts": "object_cache",
    "Prices": "tuning",
    "StackMeter": "stack_meter",
    "Tuning": "tuning",
    "TuningLoop": "loop",
}

__all__ = [
    "Admitted",
    "BlockTiers",
    "BudgetedReplay",
    "DeviceBlocks",
    "Division",
    "HybridAllocator",
    "HybridCounts",
    "Look",
    "MemoryBudget",
    "ObjectCache",
    "ObjectCounts",
    "Prices",
    "StackMeter",
    "Tuning",
    "TuningLoop",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
