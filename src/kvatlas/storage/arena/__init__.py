"""Arenas: one large piece of memory, cut into allocations of any size.

Owns: `GPUMemoryPool` and `IntelligentMemoryPool`, on host memory or a device's. Leaves to others:
pools of equal blocks (`kvatlas.storage`, `kvatlas.engine`), whether to compact (`kvatlas.defrag`).
The names load lazily: their kernels need Numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.storage.arena.allocation import Allocation
    from kvatlas.storage.arena.compaction import Compaction
    from kvatlas.storage.arena.gpu_memory_pool import GPUMemoryPool
    from kvatlas.storage.arena.intelligent_memory_pool import IntelligentMemoryPool
    from kvatlas.storage.arena.statistics import ArenaStatistics, ClassStatistics

_HOME = {
    "Allocation": "allocation",
    "ArenaStatistics": "statistics",
    "ClassStatistics": "statistics",
    "Compaction": "compaction",
    "GPUMemoryPool": "gpu_memory_pool",
    "IntelligentMemoryPool": "intelligent_memory_pool",
}

__all__ = [
    "Allocation",
    "ArenaStatistics",
    "ClassStatistics",
    "Compaction",
    "GPUMemoryPool",
    "IntelligentMemoryPool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
