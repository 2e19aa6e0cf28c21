"""How near an eviction policy comes to the optimum, on every trace at hand and a held-out half.

Owns: the measurement: gap closed at the knee, the worst of 65 capacities against LRU, for all
requests and for the second half of them, with the cache and whatever the policy has learnt warm
from the first. Leaves to others: the policies, the curve.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvatlas.eviction import simulate
from kvatlas.measure.curves import CapacityStudy, knee, lru_curve
from kvatlas.workload import Workload, generate, load

__all__ = ["POLICIES", "Goal", "Half", "goal", "workloads"]

F64 = NDArray[np.float64]

POLICIES = ("return-rate", "one-hit-first", "lfu", "session-aware")
CAPACITIES = 65
_THREADS = 2
_PUBLIC = (
    # File, format, tokens per block, whether a partial last block counts.
    ("mooncake_conversation.jsonl", 512, True),
    ("mooncake_conversation.jsonl", 512, False),
    ("claude_code_sessions", 512, False),
    ("sharegpt_llama3_300.jsonl.gz", 16, False),
)
_BUILT_IN = (
    ("conversation", 16),
    ("agents", 128),
    ("retrieval", 64),
    ("bursts", 16),
    ("comb", 16),
    ("sawtooth", 16),
    ("survivors", 16),
    ("mixed-sizes", 16),
)


@dataclass(frozen=True, slots=True)
class Half:
    """One policy over some of the requests, block hit rates in percent.

    Attributes:
        knee_blocks: of the LRU curve of these requests; lru, policy, optimum: there.
        gap_closed: share of the way from LRU to the optimum there; None where they are equal.
        worst, best, mean: points against LRU over all capacities.
    """

    knee_blocks: int
    lru: float
    policy: float
    optimum: float
    gap_closed: float | None
    worst: float
    best: float
    mean: float


@dataclass(frozen=True, slots=True)
class Goal:
    """One policy on one workload: all requests, and the second half of them."""

    workload: str
    block_size: int
    policy: str
    whole: Half
    held_out: Half


def workloads(shared: Path | None = None) -> Iterator[tuple[str, Workload, int, bool]]:
    """Yield name, requests, block size and whether partial blocks count, for all that are here."""
    folder = shared or Path(
        os.environ.get("KVATLAS_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    )
    for file, block_size, partial in _PUBLIC:
        path = folder / "traces" / file
        if path.exists():
            said = f"{file.split('.')[0]}{', partial blocks counted' if partial else ''}"
            token_ids = file.startswith("sharegpt")
            workload = load(path, identity_tokens=block_size) if token_ids else load(path)
            yield said, workload, block_size, partial
    for name, block_size in _BUILT_IN:
        yield name, generate(name, seed=0), block_size, False


def goal(
    name: str,
    workload: Workload,
    block_size: int,
    count_partial: bool,
    policies: Sequence[str] = POLICIES,
) -> list[Goal]:
    """Return how each policy does on `workload` at 65 capacities and both knees."""
    study = CapacityStudy(workload, block_size, count_partial=count_partial)
    half = workload.num_requests // 2
    curves = [lru_curve(study.runs), lru_curve(study.runs, half)]
    knees = [max(1, knee(curve.blocks)) for curve in curves]
    low, high = max(1, study.distinct_blocks // 500), max(2, study.distinct_blocks)
    even = np.round(np.geomspace(low, high, CAPACITIES)).astype(np.int64)
    capacities = np.unique(np.concatenate([even, knees]))
    prompt_blocks = study.paths.prompt_blocks
    best = np.array(
        [_halves(np.minimum(study.optimum.hits(int(c)), prompt_blocks), half) for c in capacities]
    )
    lru = np.stack([curve.blocks(capacities) for curve in curves], axis=1)
    queried = np.array([curve.queried_blocks for curve in curves])

    def hits(policy: str, capacity: int) -> tuple[int, int]:
        found = simulate(
            workload,
            policy,
            capacity,
            block_size=block_size,
            count_partial=count_partial,
            rows=True,
        ).row_hit_blocks
        assert found is not None
        return _halves(found, half)

    goals = []
    for policy in policies:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = np.array(list(pool.map(lambda c, p=policy: hits(p, int(c)), capacities)))
        parts = [
            _half(capacities, knees[i], queried[i], lru[:, i], found[:, i], best[:, i])
            for i in range(2)
        ]
        goals.append(Goal(name, block_size, policy, *parts))
    return goals


def _halves(row_hits: NDArray[np.int32], half: int) -> tuple[int, int]:
    """Return the hits of all requests and of those from row `half` on."""
    return int(row_hits.sum(dtype=np.int64)), int(row_hits[half:].sum(dtype=np.int64))


def _half(
    capacities: NDArray[np.int64],
    knee_blocks: int,
    queried: int,
    lru: NDArray[np.int64],
    policy: NDArray[np.int64],
    optimum: NDArray[np.int64],
) -> Half:
    percent = 100 / max(1, queried)
    at = int(np.searchsorted(capacities, knee_blocks))
    gap = int(optimum[at] - lru[at])
    points = (policy - lru) * percent
    return Half(
        knee_blocks=knee_blocks,
        lru=float(lru[at] * percent),
        policy=float(policy[at] * percent),
        optimum=float(optimum[at] * percent),
        gap_closed=float((policy[at] - lru[at]) / gap) if gap else None,
        worst=float(points.min()),
        best=float(points.max()),
        mean=float(points.mean()),
    )
