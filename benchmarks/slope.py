"""Does the cost per scheduled token stay flat as requests and blocks grow a thousandfold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.clock import repeat
from kvatlas.engine import EngineConfig, Replay
from kvatlas.workload import Workload, generate

SHORT_PROMPTS = {
    "template_tokens": 64,
    "prompt_tokens": 96,
    "output_tokens": 24,
    "sigma": 0.5,
    "requests_per_s": 1000.0,
}
"""Knobs of `bursts` that keep a million requests under 8 GB: some 12 blocks each."""
_RUNNING = 32
_LEAST_S = 0.2  # a thousand requests take 2 ms: as many runs as it takes


@dataclass(frozen=True)
class Point:
    """One size, how many units of work there were, and what one cost."""

    size: int
    units: int
    ns_per_unit: float


@dataclass(frozen=True)
class Slope:
    """A quantity that grows, the points, and the exponent: 0 is flat, 1 is proportional.

    `per` is what the cost is divided by.
    """

    grows: str
    points: tuple[Point, ...]
    per: str = "token"

    @property
    def exponent(self) -> float:
        """The slope of log(ns per unit) over log(size), least squares."""
        if len(self.points) < 2:
            return 0.0
        sizes = np.log10([point.size for point in self.points])
        costs = np.log10([point.ns_per_unit for point in self.points])
        return float(np.polyfit(sizes, costs, 1)[0])


def over_requests(sizes: Sequence[int], *, num_blocks: int, repeats: int) -> Slope:
    """Serve 1k to 1M requests on one pool. Memory: about 1 KiB per request."""
    points = []
    for size in sizes:
        workload = generate("bursts", seed=0, num_requests=size, **SHORT_PROMPTS)
        points.append(_point(size, workload, num_blocks, repeats))
    return Slope("requests", tuple(points))


def over_blocks(sizes: Sequence[int], *, num_requests: int, repeats: int) -> Slope:
    """Serve the same requests on pools of 1k to 1M blocks.

    As few run at once as the smallest pool holds, so that every pool sees the same batches; what
    differs is how much stays cached, and how far apart it lies in memory.
    """
    workload = generate("bursts", seed=0, num_requests=num_requests, **SHORT_PROMPTS)
    return Slope("blocks", tuple(_point(size, workload, size, repeats) for size in sizes))


def _point(size: int, workload: Workload, num_blocks: int, repeats: int) -> Point:
    config = EngineConfig(num_blocks=num_blocks, max_num_seqs=_RUNNING)
    tokens = int(Replay(workload.head(2_000), config).run().decisions["scheduled_tokens"])

    def once() -> float:
        nonlocal tokens
        result = Replay(workload, config).run()
        tokens = int(result.decisions["scheduled_tokens"])
        return result.engine_s

    seconds = repeat(once, repeats, at_least_s=_LEAST_S)
    return Point(size, tokens, seconds.median / tokens * 1e9)
