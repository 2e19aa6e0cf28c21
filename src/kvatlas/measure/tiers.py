"""What a tier below the device brought back, took in and cost, as named figures.

Owns: the formulas, from a replay's counts and integrals. Leaves to others: the counts (`engine`),
hit rates of both tiers together (`replay`).
"""

from __future__ import annotations

from collections.abc import Mapping

from kvatlas.measure.figures import Figures

__all__ = ["measure_tier"]

_BLOCKS = ("restored", "written", "kept", "saved_at_preemption", "evictions", "refusals")
_NAMES = (
    "tier.device_token_hit_rate",
    "tier.host_token_hit_rate",
    "tier.restored_tokens",
    *(f"tier.{name}_blocks" for name in _BLOCKS),
    "tier.swapped_requests",
    "tier.recomputed_requests",
    "tier.usage",
    "tier.moving_s",
    "tier.moving_share",
)


def measure_tier(
    figures: Figures, decisions: Mapping[str, int | float | str], sums: Mapping[str, float]
) -> None:
    """Add the figures of the host tier, or that there is none."""
    if "host_capacity" not in sums:
        figures.lack("there is no host tier: --host-blocks", *_NAMES)
        return
    queries, hits = (float(decisions[f"prefix_{name}"]) for name in ("queries", "hits"))
    restored = sums["restored"]
    for name, part in zip(_NAMES[:2], (hits - restored, restored), strict=True):
        figures.ratio(name, part, queries, "no request was admitted")
    figures.put("tier.restored_tokens", int(restored + sums["preempted_restored"]))
    for name in _BLOCKS:
        figures.put(f"tier.{name}_blocks", int(sums[f"host_{name}"]))
    figures.put("tier.swapped_requests", int(sums["host_swapped"]))
    figures.put("tier.recomputed_requests", int(sums["host_recomputed"]))
    figures.put("tier.usage", sums["host_used"] / sums["host_capacity"])
    figures.put("tier.moving_s", sums["host_moving_ms"] / 1e3)
    figures.ratio(
        "tier.moving_share", sums["host_moving_ms"], sums["busy_ms"], "no step took any time"
    )
