"""The arena beside a naive one: the same addresses, sums and free ranges after every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_arena import NaiveArena
from numpy.typing import NDArray

from kvatlas.jit import COMPILED
from kvatlas.storage.arena import Allocation, GPUMemoryPool, IntelligentMemoryPool

POOLS = (GPUMemoryPool, IntelligentMemoryPool)
MakePool = Callable[..., GPUMemoryPool]


def odd_buffer(nbytes: int, shift: int) -> NDArray[np.uint8]:
    """Return memory whose address is `shift` beyond a multiple of 4096."""
    whole = np.zeros(nbytes + 8192, np.uint8)
    start = -whole.ctypes.data % 4096 + shift
    return whole[start : start + nbytes]


@dataclass
class Model:
    """A pool, its naive twin, and what each allocation holds."""

    pool: GPUMemoryPool
    naive: NaiveArena
    live: list[tuple[Allocation, int, int]]  # with its offset and what its bytes are

    @classmethod
    def of(cls, capacity: int, granule: int, shift: int) -> Model:
        """Return the two, empty."""
        pool = GPUMemoryPool(buffer=odd_buffer(capacity, shift), granule=granule)
        origin = -pool.base_address % granule
        naive = NaiveArena(pool.base_address, origin, pool.capacity_bytes, granule)
        return cls(pool, naive, [])

    def allocate(self, nbytes: int, alignment: int, mark: int) -> None:
        """Both take the same range, or none."""
        got = self.pool.allocate(nbytes, alignment=alignment)
        offset = self.naive.allocate(nbytes, alignment)
        assert (None if got is None else got.offset) == offset
        if got is not None:
            assert offset is not None
            assert got.address % alignment == 0
            got.view()[:] = mark
            self.live.append((got, offset, mark))

    def free(self, which: int) -> None:
        """Both take it back; its bytes are its own until then."""
        got, offset, mark = self.live.pop(which % len(self.live))
        assert (got.view() == mark).all()
        got.free()
        self.naive.release(offset, got.nbytes)

    def compare(self) -> None:
        """The sums and the pieces are the same."""
        self.pool.check()
        found = self.pool.statistics()
        assert found.free_ranges == len(self.naive.free)
        assert found.largest_free_bytes == self.naive.largest
        assert found.free_bytes == sum(length for _, length in self.naive.free)
        assert found.requested_bytes == sum(got.nbytes for got, _, _ in self.live)
        assert found.live == len(self.live)


STEPS = st.lists(
    st.one_of(st.tuples(st.integers(1, 3000), st.integers(0, 11)), st.tuples(st.integers(-50, -1))),
    max_size=120,
)


@given(steps=STEPS, granule=st.sampled_from([16, 64, 512]), shift=st.integers(0, 70))
@settings(max_examples=60)
def test_every_address_is_the_naive_ones(
    steps: list[tuple[int, ...]], granule: int, shift: int
) -> None:
    model = Model.of(20_000, granule, shift)
    for mark, step in enumerate(steps):
        if step[0] > 0:
            model.allocate(step[0], 1 << step[1], mark % 251)
        elif model.live:
            model.free(-step[0])
        model.compare()
    while model.live:
        model.free(0)
    model.compare()
    assert model.pool.statistics().free_ranges == 1


def test_a_long_course_is_the_naive_ones() -> None:
    # GIVEN sizes over four magnitudes, an arena that is full most of the time
    rng = np.random.default_rng(1)
    model = Model.of(1 << 18, 64, 32)
    for step in range(4_000):
        if model.live and rng.random() < 0.5:
            model.free(int(rng.integers(len(model.live))))
        else:
            nbytes = int(np.exp(rng.uniform(0, np.log(20_000))))
            model.allocate(nbytes, 1 << int(rng.integers(0, 13)), step % 251)
        if step % 100 == 0:
            model.compare()
    assert model.pool.statistics().fragmented_failures > 0
    while model.live:
        model.free(-1)
    model.compare()
    assert model.pool.statistics().free_ranges == 1


@pytest.mark.parametrize("make", POOLS)
@pytest.mark.slow
def test_a_million_operations_in_bulk(make: MakePool) -> None:
    # GIVEN half a million allocations and as many frees, the books checked between the rounds
    rng = np.random.default_rng(2)
    pool = make("64MiB", granule=64)
    held, sizes = np.empty(0, np.int64), np.empty(0, np.int64)
    operations = 0
    while operations < 1_000_000:
        asked = np.exp(rng.uniform(0, np.log(60_000), 12_000)).astype(np.int64)
        handles = pool.allocate_many(asked)
        held = np.concatenate((held, handles[handles >= 0]))
        sizes = np.concatenate((sizes, asked[handles >= 0]))
        order = rng.permutation(held.size)
        keep, drop = order[: held.size // 3], order[held.size // 3 :]
        pool.free_many(held[drop])
        held, sizes = held[keep], sizes[keep]
        operations += asked.size + drop.size
        # THEN nothing overlaps, all addresses are aligned, the sums are right
        offsets = pool.offsets(held)
        by_place = np.argsort(offsets)
        ends = offsets[by_place] + sizes[by_place]
        assert (ends[:-1] <= offsets[by_place][1:]).all()
        assert ((offsets + pool.base_address) % 64 == 0).all()
        assert pool.statistics().requested_bytes == sizes.sum()
        pool.check()
    assert pool.statistics().failures > 0
    pool.free_many(held)
    if isinstance(pool, IntelligentMemoryPool):
        pool.trim()
    pool.check()
    after = pool.statistics()
    assert (after.free_ranges, after.largest_free_bytes) == (1, pool.capacity_bytes)
    assert after.allocations == after.frees


@given(sizes=st.lists(st.integers(1, 9_000), max_size=40), seed=st.integers(0, 9))
@settings(max_examples=40 if COMPILED else 8)
@pytest.mark.parametrize("make", POOLS)
def test_bulk_calls_do_what_single_ones_do(make: MakePool, sizes: list[int], seed: int) -> None:
    many, single = make(100_000, granule=16), make(100_000, granule=16)
    handles = many.allocate_many(np.array(sizes, np.int64))
    ones = [single.allocate(nbytes) for nbytes in sizes]
    assert [int(handle) for handle in handles] == [
        -1 if one is None else one.handle for one in ones
    ]
    assert many.statistics() == single.statistics()
    drop = np.random.default_rng(seed).permutation(np.flatnonzero(handles >= 0))[::2]
    many.free_many(handles[drop])
    for which in drop:
        one = ones[which]
        assert one is not None
        one.free()
    assert many.statistics() == single.statistics()
    many.check()
