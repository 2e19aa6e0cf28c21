"""What a cache of the replayed pool's size could have hit: LRU alone, the optimum, and the knee.

Owns: these figures of a replay. Leaves to others: the curves (`kvatlas.measure.curves`).

The engine's own hit rate differs from LRU alone by what running requests pin and by when they come;
what lies between LRU alone and the optimum is the most that another eviction policy could gain.
"""

from __future__ import annotations

from kvatlas.measure.figures import Figures
from kvatlas.workload.model import Workload

__all__ = ["lack_potential", "measure_potential"]

_NAMES = ("prefix.lru_token_hit_rate", "prefix.optimum_token_hit_rate", "capacity.knee_blocks")


def measure_potential(
    figures: Figures, workload: Workload, capacity_blocks: int, block_size: int
) -> None:
    """Add what `capacity_blocks` blocks could have hit, outputs cached too. O((N + S) log N)."""
    from kvatlas.measure.curves import CapacityStudy

    study = CapacityStudy(workload, block_size, with_outputs=True)
    hits = int(study.lru.tokens(capacity_blocks)[0])
    best = int(study.optimum_hits([capacity_blocks])[1][0])
    for name, tokens in zip(_NAMES, (hits, best), strict=False):
        figures.ratio(name, tokens, study.lru.queried_tokens, "no prompts")
    figures.put(_NAMES[2], study.knee_blocks)


def lack_potential(figures: Figures, reason: str) -> None:
    """Add that these figures cannot be had."""
    figures.lack(reason, *_NAMES)
