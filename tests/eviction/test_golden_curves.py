"""Exact hit counts of every policy on built-in workloads: a changed number is a changed policy."""

from __future__ import annotations

import pytest

from kvatlas.eviction import OPTIMUM, POLICIES, simulate
from kvatlas.workload import generate

_CAPACITIES = (500, 2000, 8000)
_GOLDEN = {
    "conversation": {
        "lru": [7197, 11867, 17104],
        "fifo": [5698, 10176, 16393],
        "lfu": [10075, 12286, 17066],
        "2q": [9727, 11226, 16393],
        "s3-fifo": [9965, 12152, 17076],
        "sieve": [9925, 11533, 17066],
        "one-hit-first": [8806, 12350, 17066],
        "compute-aware": [7145, 11297, 17032],
        "session-aware": [9144, 12245, 17104],
        "return-rate": [9977, 11820, 17082],
        "optimum": [12306, 16430, 17104],
    },
    "agents": {
        "lru": [34599, 97444, 255144],
        "fifo": [30598, 72955, 208449],
        "lfu": [44500, 171600, 257387],
        "2q": [20107, 137366, 242367],
        "s3-fifo": [11721, 163888, 255279],
        "sieve": [37519, 168551, 243225],
        "one-hit-first": [36474, 102659, 260396],
        "compute-aware": [34599, 99233, 254365],
        "session-aware": [36269, 106979, 257115],
        "return-rate": [39900, 145789, 258465],
        "optimum": [77874, 184850, 303375],
    },
}


@pytest.mark.parametrize("name", _GOLDEN)
def test_hit_blocks_of_every_policy(name: str) -> None:
    """GIVEN 400 requests in 16-token blocks WHEN policies run at three capacities THEN as ever."""
    workload = generate(name).head(400)
    found = {
        policy: [
            simulate(workload, policy, capacity, block_size=16).hit_blocks
            for capacity in _CAPACITIES
        ]
        for policy in [*POLICIES, OPTIMUM.name]
    }
    assert found == _GOLDEN[name]
