"""What to do when memory is short, for engines that schedule by themselves.

`OOMHandler` goes down a ladder: evict what is only cached, swap out, defragment where blocks must
lie side by side, preempt the lowest priority, and one clear error for what can never fit.
`LazyDeallocator` gives blocks back some steps later. `kvatlas.pressure.hybrid` divides one budget
over several tiers. The policies of the simulated engine are
settings of `kvatlas.engine.EngineConfig`. The names load lazily: the engine's kernels need Numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.pressure.lazy import LazyDeallocator
    from kvatlas.pressure.oom_handler import Admission, OOMHandler
    from kvatlas.pressure.rungs import LadderStats, RungTaken, Swap

_HOME = {
    "Admission": "oom_handler",
    "LadderStats": "rungs",
    "LazyDeallocator": "lazy",
    "OOMHandler": "oom_handler",
    "RungTaken": "rungs",
    "Swap": "rungs",
}

__all__ = [
    "Admission",
    "LadderStats",
    "LazyDeallocator",
    "OOMHandler",
    "RungTaken",
    "Swap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
