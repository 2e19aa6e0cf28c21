"""Four bounds in order, and what costs most: capacity, policy, configuration or traffic.

Owns: naming the bottleneck. Leaves to others: the bounds themselves (`CapacityStudy`).
"""

from __future__ import annotations

from kvatlas.measure.curves import CapacityStudy
from kvatlas.report.curve_document import Bottleneck, Bounds

__all__ = ["bounds_at"]

_LITTLE = 0.05
"""A loss below this share of what the traffic allows is not worth anybody's work."""


def bounds_at(study: CapacityStudy, capacity_blocks: int, engine: float | None = None) -> Bounds:
    """Return the bounds at one capacity. O(S log N).

    Args:
        study: the trace.
        capacity_blocks: of the cache.
        engine: token hit rate of the engine as configured, when a replay has measured it.
    """
    table = study.table([capacity_blocks])
    queried = max(1, table.queried_tokens)
    lru = int(table.hit_tokens[0]) / queried
    optimum = lru + int(table.policy_tokens[0]) / queried
    ceiling = optimum + int(table.capacity_tokens[0]) / queried
    content = ceiling + table.granularity_tokens / queried
    name, reason = _bottleneck(content, ceiling, optimum, lru, engine)
    return Bounds(capacity_blocks, content, ceiling, optimum, lru, engine, name, reason)


def _bottleneck(
    content: float, ceiling: float, optimum: float, lru: float, engine: float | None
) -> tuple[Bottleneck, str]:
    apart = 0.0 if engine is None else lru - engine
    losses: dict[Bottleneck, float] = {
        "capacity": ceiling - optimum,
        "policy": optimum - lru,
        "configuration": max(0.0, content - ceiling) + max(0.0, apart),
    }
    lost = sum(losses.values())
    if content == 0:
        return "traffic", "no prompt begins as an earlier one did: only other traffic has hits"
    if lost < _LITTLE * content:
        return "traffic", (
            f"{content:.1%} of the prompt tokens were ever seen before, and all but "
            f"{_points(lost)} of that is reached: only other traffic has more hits"
        )
    name = max(losses, key=lambda loss: losses[loss])
    said = {
        "capacity": "even the best eviction policy would miss them at this capacity",
        "policy": "a perfect eviction policy would hit them at this capacity",
        "configuration": "whole blocks, the last token, running requests and outputs cost them",
    }
    return name, (
        f"{_points(losses[name])} of the {_points(lost)} between what was seen before and what is "
        f"hit: {said[name]}"
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
