"""Foresight for one trace: what capacity buys, what limits it, and how sure that is.

`advise` answers "how much for X%", `bounds_at` names the bottleneck, `marks` places memory tiers on
the curve, `engine_points` replays the engine at a few sizes, `headline` says what to read first.
"""

from kvatlas.plan.capacity.advice import HELD_OUT_TOLERANCE, advise
from kvatlas.plan.capacity.bounds import bounds_at
from kvatlas.plan.capacity.engine_curve import engine_points
from kvatlas.plan.capacity.headline import headline
from kvatlas.plan.capacity.tiers import marks, prefill_speedup

__all__ = [
    "HELD_OUT_TOLERANCE",
    "advise",
    "bounds_at",
    "engine_points",
    "headline",
    "marks",
    "prefill_speedup",
]
