"""What both pools promise: errors, pressure, threads, views, size classes that follow demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kvatlas.errors import InputError, InvariantError
from kvatlas.storage.arena import Allocation, GPUMemoryPool, IntelligentMemoryPool

POOLS = (GPUMemoryPool, IntelligentMemoryPool)
MakePool = Callable[..., GPUMemoryPool]
both = pytest.mark.parametrize("make", POOLS)


def taken(pool: GPUMemoryPool, nbytes: int) -> Allocation:
    """Allocate what surely fits."""
    got = pool.allocate(nbytes)
    assert got is not None
    return got


@both
@pytest.mark.parametrize("width", ["uint8", "int32", "int64", "uint64"])
def test_rows_of_every_integer_are_rows(make: MakePool, width: str) -> None:
    # GIVEN sizes of one width WHEN allocated in bulk THEN all of them are, and given back
    pool = make("1MiB")
    handles = pool.allocate_many(np.array([100, 7, 255], width))
    assert pool.statistics().requested_bytes == 362
    pool.free_many(handles)
    assert pool.statistics().requested_bytes == 0


@both
def test_what_cannot_be_is_refused_in_a_line(make: MakePool) -> None:
    pool, other = make("1MiB"), make("1MiB")
    mine = taken(pool, 100)
    for call in (
        lambda: pool.allocate(0),
        lambda: pool.allocate(1, alignment=3),
        lambda: pool.allocate_many([1, 0]),
        lambda: pool.allocate_many([1.5]),
        lambda: other.free(mine),
        lambda: pool.free_many([mine.handle, mine.handle]),
        lambda: pool.free_many([mine.handle, -1]),
        lambda: pool.free_many([mine.handle + 0.5]),
        lambda: pool.free_many(np.array([2**63 + mine.handle], np.uint64)),
        lambda: pool.free_many([[mine.handle]]),
        lambda: pool.offsets([mine.handle + 0.5]),
        lambda: pool.offsets([12345]),
        lambda: pool.view(mine.handle, 101),
        lambda: mine.view("float64"),
        lambda: mine.view("bfloat17"),
        lambda: make(0),
        lambda: make(),
        lambda: make("1MiB", granule=48),
        lambda: make(17, granule=64),
        lambda: make("1MiB", buffer=np.zeros(4096, np.uint8)),
        lambda: make(buffer=np.zeros((64, 64), np.uint8)[:, ::2]),
        lambda: make(buffer=b"bytes"),
        lambda: make("1MiB", device="nowhere:0"),
        lambda: IntelligentMemoryPool("1MiB", interval=0),
        lambda: IntelligentMemoryPool("1MiB", largest_class_bytes=10),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
    # THEN nothing of it has changed anything
    pool.check()
    assert (pool.statistics().live, pool.statistics().frees) == (1, 0)
    mine.free()
    for late in (mine.free, mine.view, lambda: mine.offset, lambda: pool.free_many([mine.handle])):
        with pytest.raises(InputError, match="freed"):
            late()


@both
def test_a_handle_does_not_name_the_next_tenant(make: MakePool) -> None:
    pool = make(4096, granule=4096)
    first = taken(pool, 10)
    first.free()
    second = taken(pool, 10)
    assert second.handle != first.handle
    with pytest.raises(InputError):
        first.free()
    assert pool.statistics().live == 1


@both
def test_a_full_pool_is_an_answer(make: MakePool) -> None:
    pool = make(1 << 16, granule=64)
    held = [taken(pool, 4096) for _ in range(16)]
    assert pool.allocate(1) is None
    for one in held[::2]:
        one.free()
    assert pool.allocate(4097) is None
    assert pool.allocate(10**15) is None
    found = pool.statistics()
    assert (found.failures, found.fragmented_failures, found.free_ranges) == (3, 1, 8)
    assert found.external_fragmentation == 1 - 1 / 8
    assert found.internal_waste == 0


@both
def test_pressure_frees_and_the_request_is_tried_once_more(make: MakePool) -> None:
    asked: list[int] = []
    pool = make(1 << 16, granule=64)
    held = [taken(pool, 1 << 14) for _ in range(4)]

    def relieve(nbytes: int) -> None:
        asked.append(nbytes)
        # Re-entrant: it frees, allocates, and its own failure does not call it again.
        if held:
            held.pop().free()
        assert pool.allocate(1 << 15) is None

    pool.on_pressure = relieve
    assert pool.allocate(1 << 14) is not None
    assert pool.allocate(1 << 15) is None  # one call of it frees half of that
    assert (pool.allocate_many([1 << 13, 1 << 13, 1 << 14]) >= 0).all()
    assert pool.allocate(1 << 17) is None  # larger than all of it: nobody is asked
    assert asked == [1 << 14, 1 << 15, 1 << 14]
    found = pool.statistics()
    assert (found.pressure_calls, found.pressure_rescues) == (3, 2)
    pool.check()


@both
def test_what_the_pressure_callback_raises_goes_through(make: MakePool) -> None:
    def fail(nbytes: int) -> None:
        raise RuntimeError(f"no {nbytes}")

    pool = make(4096, granule=4096, on_pressure=fail)
    held = taken(pool, 1)
    for _ in range(2):  # and it is asked again the next time
        with pytest.raises(RuntimeError, match="no 4000"):
            pool.allocate(4000)
    held.free()
    assert pool.allocate(4000) is not None
    pool.check()


@both
def test_views_are_the_memory_itself(make: MakePool) -> None:
    memory = np.zeros(1 << 14, np.uint8)
    pool = make(buffer=memory)
    one, two = taken(pool, 1000), taken(pool, 512)
    one.view("float32")[:] = 1.5
    two.view()[:] = 7
    assert one.view("float32").shape == (250,)
    assert memory[one.offset : one.offset + 1000].view(np.float32).tolist() == [1.5] * 250
    assert (memory[two.offset : two.offset + 512] == 7).all()
    assert np.shares_memory(two.view(), memory)


@both
def test_threads_share_a_pool(make: MakePool) -> None:
    pool = make("4MiB", granule=64)
    broken: list[str] = []

    def work(mark: int) -> None:
        rng = np.random.default_rng(mark)
        held: list[Allocation] = []
        for _ in range(400):
            if held and rng.random() < 0.5:
                one = held.pop(int(rng.integers(len(held))))
                if not (one.view() == mark).all():
                    broken.append(f"{mark} lost its bytes")
                one.free()
            elif (got := pool.allocate(int(rng.integers(1, 20_000)))) is not None:
                got.view()[:] = mark
                held.append(got)
        for one in held:
            one.free()

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.check()
    assert broken == []
    assert pool.statistics().live == 0


def test_a_class_refills_by_demand_and_gives_back_what_lies_idle() -> None:
    # GIVEN a class that is asked for more and more
    pool = IntelligentMemoryPool("64MiB", interval=100)
    pool.allocate_many(np.full(100, 1000))
    (first,) = pool.classes()
    assert (first.nbytes, first.batch, first.hits, first.misses) == (1024, 2, 0, 100)
    for _ in range(9):
        pool.allocate_many(np.full(100, 1000))
    (grown,) = pool.classes()
    assert (grown.batch, grown.live) == (64, 1000)
    pool.allocate_many(np.full(1000, 1000))
    (steady,) = pool.classes()
    assert steady.hits - grown.hits > 10 * (steady.misses - grown.misses)
    # WHEN all of it is freed and somebody else asks THEN it gives back three quarters at each look
    handles = pool.allocate_many(np.full(3000, 1000))
    pool.free_many(handles)
    waiting = []
    for _ in range(12):
        pool.free_many(pool.allocate_many(np.full(100, 5000)))
        waiting.append(pool.classes()[0].cached)
        pool.check()
    assert waiting[-1] <= 3 < 3000 <= waiting[0]
    assert all(after <= before for before, after in pairwise(waiting))
    assert pool.classes()[0].batch == 1


def test_nothing_fails_for_memory_that_waits() -> None:
    # GIVEN an arena whose every byte lies on a shelf WHEN another size comes THEN it is served
    pool = IntelligentMemoryPool(1 << 20, granule=64)
    pool.free_many(pool.allocate_many(np.full(1024, 1024)))
    assert pool.statistics().cached_bytes > 0
    whole = pool.allocate(pool.capacity_bytes)
    assert whole is not None
    assert pool.statistics().cached_bytes == 0
    pool.check()


def test_a_request_that_fits_only_without_its_class_is_served() -> None:
    pool = IntelligentMemoryPool(80 * 1024, granule=1024, largest_class_bytes=16 * 1024)
    held = [taken(pool, 9 * 1024) for _ in range(8)]  # each in a class of 10 KiB
    last = held.pop()
    last.free()
    taken(pool, 1024)
    got = taken(pool, 9 * 1024)
    assert pool.statistics().internal_waste is not None
    got.free()
    pool.check()


@both
def test_broken_books_are_found(make: MakePool) -> None:
    pool = make("1MiB")
    taken(pool, 1000)
    pool._arena.nodes["length"][0] += 256
    with pytest.raises(InvariantError):
        pool.check()


def test_tensors_serve_as_memory() -> None:
    torch = pytest.importorskip("torch")
    memory = torch.zeros(1 << 16, dtype=torch.uint8)
    pool = IntelligentMemoryPool(buffer=memory, granule=64)
    held = [taken(pool, 1 << 12) for _ in range(8)]
    for mark, one in enumerate(held):
        one.view("bfloat16").fill_(mark)
    for one in held[::2]:
        one.free()
    done = pool.compact()
    assert done.bytes_moved > 0
    for mark, one in list(enumerate(held))[1::2]:
        assert bool((one.view("bfloat16") == mark).all())
    with pytest.raises(InputError, match="PyTorch"):
        held[1].view("no_such_type")
    with pytest.raises(InputError, match="contiguous"):
        GPUMemoryPool(buffer=torch.zeros(8, 8)[:, ::2])
    assert GPUMemoryPool(1 << 16, device="cpu").device == "cpu"
    pool.check()


def test_what_is_no_number_is_refused_in_one_line() -> None:
    pool: Any = GPUMemoryPool(1 << 16)
    for call in (
        lambda: pool.allocate(1.5),
        lambda: pool.allocate(None),
        lambda: pool.allocate(16, alignment=2.0),
        lambda: pool.allocate(16, alignment=1.0),
        lambda: pool.allocate_many([16], alignment=2.0),
        lambda: pool.free(None),
        lambda: pool.free(3),
        lambda: GPUMemoryPool(1 << 16, granule=256.0),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert pool.statistics().live == 0
    held = pool.allocate(np.int64(100), alignment=np.int64(512))
    assert held.address % 512 == 0
    pool.free(held)
    pool.check()
