"""Independent figures of the public conversation trace, met as far as definitions are the same."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvatlas.eviction import simulate
from kvatlas.workload import Workload, load

_GIVEN = os.environ.get("KVATLAS_SHARED")
_SHARED = Path(_GIVEN) if _GIVEN else Path(__file__).resolve().parents[2].parent / "shared"
_TRACE = _SHARED / "traces" / "mooncake_conversation.jsonl"
_CAPACITIES = (3000, 6000, 12_000, 25_000)

pytestmark = pytest.mark.skipif(
    not _TRACE.exists(),
    reason="the public trace is not here (KVATLAS_SHARED names its folder)",
)


@functools.cache
def _trace() -> Workload:
    return load(_TRACE, format="mooncake")


def _hit_rates(name: str) -> list[float]:
    """Return the block hit rates in percent; two capacities at a time, in two threads."""

    def at(capacity: int) -> float:
        result = simulate(_trace(), name, capacity, block_size=512, count_partial=True)
        return round(100 * result.block_hit_rate, 2)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(at, _CAPACITIES))


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("lru", [6.53, 13.93, 23.03, 30.99]),
        ("optimum", [29.45, 35.51, 36.64, 36.64]),
        # Ours: at the knee of the LRU curve, 38,222 blocks, it closes 22% of the gap.
        ("return-rate", [13.40, 17.29, 25.38, 32.04]),
        # Known to a tenth of a point, at 6,000 and 25,000 blocks.
        ("lfu", [None, 15.27, None, 26.35]),
        ("sieve", [None, 9.81, None, 24.33]),
        ("one-hit-first", [None, 18.19, None, 26.45]),
        # Published as 15.7, by a definition that is not; ghosts of the whole capacity give 15.52.
        ("s3-fifo", [None, 15.21, None, 27.93]),
    ],
)
def test_independent_figures(name: str, percent: list[float | None]) -> None:
    found = _hit_rates(name)
    assert all(known is None or one == known for one, known in zip(found, percent, strict=True)), (
        found
    )


@pytest.mark.parametrize(("capacity", "percent"), [(3000, 29.16), (6000, 35.35)])
def test_the_optimum_when_room_is_made_before(capacity: int, percent: float) -> None:
    result = simulate(
        _trace(), "optimum", capacity, block_size=512, count_partial=True, room="before"
    )
    assert round(100 * result.block_hit_rate, 2) == percent
