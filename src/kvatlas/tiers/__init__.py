"""Tiers below the device: which contents they hold, how blocks get there and back, what it costs.

`HostTier` is the index, `SwapManager` moves the bytes, `EngineConfig.host_blocks` runs a tier under
a replay or a `Scheduler`, whose moves `HostBlocks` carries out. The names load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.tiers.blocks import DiskBlocks, HostBlocks
    from kvatlas.tiers.host_tier import Evicted, HostTier, Reserved, TierStats
    from kvatlas.tiers.level import LevelStats
    from kvatlas.tiers.registry import TIER_POLICIES
    from kvatlas.tiers.swap_manager import Found, SwapManager
    from kvatlas.tiers.swap_or_recompute import SwapDecision, SwapOrRecompute

_HOME = {
    "TIER_POLICIES": "registry",
    "DiskBlocks": "blocks",
    "Evicted": "host_tier",
    "Found": "swap_manager",
    "HostBlocks": "blocks",
    "HostTier": "host_tier",
    "LevelStats": "level",
    "Reserved": "host_tier",
    "SwapDecision": "swap_or_recompute",
    "SwapManager": "swap_manager",
    "SwapOrRecompute": "swap_or_recompute",
    "TierStats": "host_tier",
}

__all__ = [
    "TIER_POLICIES",
    "DiskBlocks",
    "Evicted",
    "Found",
    "HostBlocks",
    "HostTier",
    "LevelStats",
    "Reserved",
    "SwapDecision",
    "SwapManager",
    "SwapOrRecompute",
    "TierStats",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
