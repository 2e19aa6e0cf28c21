"""Foresight for one trace: what capacity buys, what limits it, and how sure that is.

`advise` answers "how much for X%", `bounds_at` names the bottleneck, `marks` places memory tiers on
the curve, `engine_points` replays the engine at a few sizes, `headline` says what to read first.
"""

from kvatlas.plan.capacity.advice import HELD_OUT_TOLERANCE, advise
from kvatlas.plan.capacity.bounds import bounds_at
from kvatlas.plan.capacity.engine_curve import engine_points
from kvatlas.plan.capacity.headline import headline
from kvatlas.plan.capacity.tiers import marks, prefill_speedup

POINTS = 65
"""At how many capacities the curve is shown when nobody says."""
SHARES_OF_CEILING = (0.5, 0.8, 0.9, 0.95, 0.99)
"""The hit rates that are advised on when nobody says, over the ceiling."""

__all__ = [
    "HELD_OUT_TOLERANCE",
    "POINTS",
    "SHARES_OF_CEILING",
    "advise",
    "bounds_at",
    "engine_points",
    "headline",
    "marks",
    "prefill_speedup",
]
