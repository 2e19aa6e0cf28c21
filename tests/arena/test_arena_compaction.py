"""Compaction: bytes follow, what must stay stays, and the cheapest stretch is the cheapest."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from kvatlas.errors import InputError
from kvatlas.storage.arena import Allocation, GPUMemoryPool, IntelligentMemoryPool


def filled(pool: GPUMemoryPool, rng: np.random.Generator, aligned: bool) -> list[Allocation]:
    """Fill the pool, mark every byte, free some at random; what is left."""
    held: list[Allocation] = []
    while (
        got := pool.allocate(
            int(rng.integers(1, 900)), alignment=256 if aligned and rng.random() < 0.3 else 1
        )
    ) is not None:
        got.view()[:] = len(held) % 251
        held.append(got)
    dropped = {int(which) for which in rng.permutation(len(held))[: len(held) // 2]}
    for which in dropped:
        held[which].free()
    return [one for which, one in enumerate(held) if which not in dropped]


def marks(held: list[Allocation]) -> list[bytes]:
    """Return what every allocation holds."""
    return [one.view().tobytes() for one in held]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("make", [GPUMemoryPool, IntelligentMemoryPool])
def test_everything_slides_together(make: type[GPUMemoryPool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = make(30_000, granule=64)
    held = filled(pool, rng, aligned=seed % 2 == 1)
    pinned = [one.handle for one in held if rng.random() < 0.1] if seed % 3 == 0 else []
    before = marks(held), [one.offset for one in held], pool.statistics()
    done = pool.compact(pinned=pinned)
    pool.check()
    assert marks(held) == before[0]
    for one, offset in zip(held, before[1], strict=True):
        assert one.offset == offset if one.handle in pinned else one.offset <= offset
    after = pool.statistics()
    assert (after.free_bytes, after.live) == (
        before[2].free_bytes + before[2].cached_bytes,
        before[2].live,
    )
    assert done.largest_after_bytes == after.largest_free_bytes >= before[2].largest_free_bytes
    moved = sum(
        -(-one.nbytes // 64) * 64
        for one, offset in zip(held, before[1], strict=True)
        if one.offset != offset
    )
    if make is GPUMemoryPool:
        assert done.bytes_moved == moved
    if not pinned and seed % 2 == 0:
        assert (after.free_ranges, after.external_fragmentation) == (1, 0)
    for one in held:
        one.free()


def cheapest(pool: GPUMemoryPool, held: list[Allocation], until_bytes: int) -> int | None:
    """Return the fewest bytes to slide for such a free range: every stretch is looked at."""
    spans = sorted((one.offset, -(-one.nbytes // 64) * 64) for one in held)
    edges = [0, *(end for at, length in spans for end in (at, at + length)), pool.capacity_bytes]
    costs = []
    for start, stop in combinations(sorted(set(edges)), 2):
        inside = [length for at, length in spans if start <= at and at + length <= stop]
        cut = [at for at, length in spans if at < start < at + length or at < stop < at + length]
        if not cut and stop - start - sum(inside) >= until_bytes:
            moving = [at for at, _ in spans if start <= at < stop]
            lead = [
                at for at in moving if at - start == sum(x for y, x in spans if start <= y < at)
            ]
            costs.append(sum(inside) - sum(dict(spans)[at] for at in lead))
    return min(costs) if costs else None


@pytest.mark.parametrize("seed", range(20))
def test_the_stretch_is_the_cheapest(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    pool = GPUMemoryPool(8_192, granule=64)
    held = filled(pool, rng, aligned=False)
    found = pool.statistics()
    wanted = int(rng.integers(1, found.free_bytes + 1))
    least = cheapest(pool, held, wanted)
    assert least is not None
    before = marks(held)
    done = pool.compact(wanted)
    assert done.reached
    assert done.bytes_moved == least
    assert marks(held) == before
    assert pool.allocate(wanted) is not None
    pool.check()


def test_a_wish_beyond_what_is_free_moves_nothing() -> None:
    pool = GPUMemoryPool(8_192, granule=64)
    filled(pool, np.random.default_rng(0), aligned=False)
    done = pool.compact(pool.statistics().free_bytes + 64)
    assert (done.reached, done.moves, done.bytes_moved) == (False, 0, 0)


def test_pinning_what_is_not_there_is_refused() -> None:
    pool = GPUMemoryPool(8_192)
    with pytest.raises(InputError, match="freed"):
        pool.compact(pinned=[17])


def test_pressure_can_compact() -> None:
    # GIVEN bytes that are free but apart WHEN the callback compacts THEN the request is served
    pool = GPUMemoryPool(1 << 16, granule=64)
    pool.on_pressure = lambda nbytes: pool.compact(nbytes)
    held = pool.allocate_many(np.full(16, 4096))
    pool.free_many(held[::2])
    assert pool.allocate(1 << 15) is not None
    found = pool.statistics()
    assert (found.pressure_rescues, found.failures, found.free_bytes) == (1, 0, 0)
    pool.check()
