"""What a tier can be asked for: eviction policies, moments of writing, when to swap.

Owns: the names, and what of `kvatlas.eviction` a tier can run. Leaves to others: what they do
(`_store_kernel`, the engine's `tiering`).
"""

from __future__ import annotations

from kvatlas.errors import InputError
from kvatlas.eviction.registry import POLICIES
from kvatlas.tiers._state_kernel import (
    ALWAYS,
    BY_COST,
    NEVER,
    ON_EVICTION,
    ON_FREE,
    ON_PREEMPTION,
)

__all__ = ["SWAPS", "TIER_POLICIES", "WRITE_BACKS", "require_policy"]

WRITE_BACKS = {"evict": ON_EVICTION, "free": ON_FREE, "preempt": ON_PREEMPTION}
"""When an engine writes blocks to its tier: when they lose their content; whenever a request gives
them back; only when it is preempted."""

SWAPS = {"auto": BY_COST, "always": ALWAYS, "never": NEVER}
"""Whether preempted requests come back from the tier, and whether anything is brought back that is
computed again in less time (`auto`: it is not)."""

_WHOLE_REQUESTS = ("session-aware", "return-rate")
"""They learn from whole requests; a tier sees only what the device has lost."""

TIER_POLICIES: tuple[str, ...] = tuple(name for name in POLICIES if name not in _WHOLE_REQUESTS)
"""The policies of `kvatlas.eviction` that a tier can run."""


def require_policy(name: str) -> None:
    """Verify that a tier can run the policy `name`. Raises: InputError."""
    if name not in POLICIES:
        raise InputError(
            "unknown eviction policy",
            field="host_policy",
            value=name,
            remedy=f"use one of {', '.join(TIER_POLICIES)}",
        )
    if name in _WHOLE_REQUESTS:
        raise InputError(
            "this policy learns from whole requests, of which a tier sees only what the device has "
            "lost",
            field="host_policy",
            value=name,
            remedy=f"use one of {', '.join(TIER_POLICIES)}",
        )
