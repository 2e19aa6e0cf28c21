"""Tiers below the device: which contents they hold, how blocks get there and back, what it costs.

`HostTier` is the index, `EngineConfig.host_blocks` runs one under a replay. The names load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.tiers.build import TIER_POLICIES
    from kvatlas.tiers.host_tier import HostTier, Reserved, TierStats

_HOME = {
    "TIER_POLICIES": "build",
    "HostTier": "host_tier",
    "Reserved": "host_tier",
    "TierStats": "host_tier",
}

__all__ = ["TIER_POLICIES", "HostTier", "Reserved", "TierStats"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
