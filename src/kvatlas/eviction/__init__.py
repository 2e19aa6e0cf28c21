"""Which cached block is lost next: policies behind one contract, and a fast way to try them.

`POLICIES` names them; `EngineConfig.eviction_policy` runs one in the engine; `simulate` runs one
over a workload's prompts alone, as fast as the trace can be read. The names load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.eviction.prefix_only import PrefixOnlyResult, PrefixOnlyRun, simulate
    from kvatlas.eviction.registry import OPTIMUM, POLICIES, EvictionPolicy, policy

_HOME = {
    "OPTIMUM": "registry",
    "POLICIES": "registry",
    "EvictionPolicy": "registry",
    "PrefixOnlyResult": "prefix_only",
    "PrefixOnlyRun": "prefix_only",
    "policy": "registry",
    "simulate": "prefix_only",
}

__all__ = [
    "OPTIMUM",
    "POLICIES",
    "EvictionPolicy",
    "PrefixOnlyResult",
    "PrefixOnlyRun",
    "policy",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
