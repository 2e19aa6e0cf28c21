"""The memory behind block ids: keys and values in NumPy or torch, and batched copies and moves.

`KVCacheMemoryPool` holds them; `LAYOUTS` names the orders in which engines store them. The names
load lazily, and torch only for pools that ask for it. `kvatlas.storage.arena` has pieces of any
size.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.storage.dtypes import DTYPES
    from kvatlas.storage.layouts import LAYOUTS, Layout
    from kvatlas.storage.pool import KVCacheMemoryPool
    from kvatlas.storage.statistics import StorageStats

_HOME = {
    "DTYPES": "dtypes",
    "LAYOUTS": "layouts",
    "KVCacheMemoryPool": "pool",
    "Layout": "layouts",
    "StorageStats": "statistics",
}

__all__ = [
    "DTYPES",
    "LAYOUTS",
    "KVCacheMemoryPool",
    "Layout",
    "StorageStats",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
