"""The hybrid allocator: bytes are the right ones, books hold, memory goes where it saves time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvatlas.errors import InputError
from kvatlas.pressure.hybrid import (
    Admitted,
    Division,
    HybridAllocator,
    ObjectCache,
    Prices,
    Tuning,
)
from kvatlas.pressure.hybrid.block_tiers import BlockTiers
from kvatlas.storage import KVCacheMemoryPool

pytestmark = pytest.mark.slow

BLOCK = 1024


def storages(most: Division) -> tuple[KVCacheMemoryPool, KVCacheMemoryPool]:
    """Return bytes for both tiers."""
    device, host = (
        KVCacheMemoryPool(count, num_layers=1, block_size=4, kv_heads=1, head_size=32)
        for count in (most.device_blocks + 1, most.host_blocks)
    )
    assert device.bytes_per_block == BLOCK
    return device, host


def make(
    division: Division,
    *,
    tuning: Tuning | None = None,
    most: Division | None = None,
    **more: object,
) -> HybridAllocator:
    """Return an allocator of exactly this division, on a budget that it fills."""
    prices = more.get("prices", Prices())
    assert isinstance(prices, Prices)
    blocks = prices.device * division.device_blocks + prices.host * division.host_blocks
    return HybridAllocator(
        int(blocks * BLOCK + prices.objects * division.object_bytes),
        block_bytes=BLOCK,
        recompute_s=1e-3,
        restore_s=1e-4,
        most=most or division,
        start=division,
        tuning=tuning,
        **more,  # type: ignore[arg-type]
    )


def path(document: int, blocks: int) -> list[int]:
    """Return the keys of a document's first blocks."""
    return [document * 1_000 + at for at in range(blocks)]


def compute(storage: KVCacheMemoryPool, request: Admitted) -> None:
    """Write what each key's block holds, as a forward pass would."""
    known = request.device_hits + request.restored
    for block, key in zip(request.block_ids[known:], request.keys[known:], strict=False):
        storage.layers[0][block] = float(key)


def read_right(storage: KVCacheMemoryPool, request: Admitted) -> bool:
    """Return whether every block that was found holds its key's content."""
    known = request.device_hits + request.restored
    return all(
        (storage.layers[0][block] == float(key)).all()
        for block, key in zip(request.block_ids[:known], request.keys[:known], strict=False)
    )


@pytest.mark.parametrize("blocks_per_page", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_random_requests_read_what_was_written(seed: int, blocks_per_page: int) -> None:
    # GIVEN tight tiers, requests that overlap in time, a division that moves all the while
    rng = np.random.default_rng(seed)
    most = Division(63, 40, 40_000)
    device, host = storages(most)
    allocator = make(
        Division(39, 20, 20_480),
        most=most,
        tuning=Tuning(interval=5, step_share=1 / 12, least_gain=0, least_requests=1),
        blocks_per_page=blocks_per_page,
        device_storage=device,
        host_storage=host,
    )
    running: list[Admitted] = []
    moved = refused = 0
    for step in range(300):
        keys = path(int(rng.zipf(1.5)) % 12, int(rng.integers(1, 11)))
        request = allocator.admit(keys, len(keys) + int(rng.integers(0, 3)))
        if request is None:
            refused += 1
        else:
            running.append(request)
        for each in running:  # moved blocks keep their bytes
            assert read_right(device, each)
        if request is not None:
            compute(device, request)
        while running and (len(running) > 4 or request is None):
            gone = running.pop(int(rng.integers(len(running))))
            (allocator.abort if rng.random() < 0.1 else allocator.finish)(gone)
        name = int(rng.zipf(1.3)) % 40
        data = bytes([name]) * (200 + 37 * name)
        got = allocator.get_object(name)
        assert got is None or got == data
        if got is None:
            allocator.put_object(name, data, cost_s=1e-3 * (1 + step // 150 * 9))
        if step % 7 == 0:
            allocator.check()
        moved += bool(allocator.looks and allocator.looks[-1].moved)
    counts = allocator.counts()
    assert counts.device_hits > 0
    assert counts.restored > 0
    assert counts.written > 0
    assert moved > 0
    assert counts.refused == refused
    for each in running:
        allocator.finish(each)
    allocator.check()


def serve(allocator: HybridAllocator, requests: int, share: float, seed: int) -> None:
    """Send requests for 30 documents and, with that share, for 20 images that cost much more."""
    rng = np.random.default_rng(seed)
    for _ in range(requests):
        if rng.random() < share:
            image = int(rng.integers(20))
            if allocator.get_object(image) is None:
                assert allocator.put_object(image, bytes(8_000), cost_s=40e-3)
        request = allocator.admit(path(int(rng.integers(30)), 8))
        assert request is not None
        allocator.finish(request)


def test_memory_follows_the_demand() -> None:
    # GIVEN documents only, then images: WHEN tuned THEN memory goes there, and back
    most = Division(300, 300, 600_000)
    start = Division(120, 60, 120 * BLOCK)
    knobs = Tuning(interval=50, step_share=1 / 20, least_requests=50)
    tuned, still = make(start, most=most, tuning=knobs), make(start, most=most)
    divisions = []
    for share, seed in ((0.0, 1), (0.95, 2), (0.0, 3)):
        for allocator in (tuned, still):
            serve(allocator, 1_500, share, seed)
        divisions.append(tuned.division)
        tuned.check()
    documents, images, again = divisions
    assert documents.object_bytes < start.object_bytes < images.object_bytes
    assert again.object_bytes < images.object_bytes
    assert documents.device_blocks + documents.host_blocks >= 8 * 30
    assert still.division == start
    assert tuned.counts().saved_s > 1.1 * still.counts().saved_s
    # AND the log says what was done and why
    told = [look for look in tuned.looks if look.moved]
    assert {"objects -> device", "device -> objects"} <= {look.moved for look in told}
    assert all(look.before != look.after for look in told)
    assert all("would have saved" in look.why for look in told)


def test_one_memory_for_both_belongs_to_the_device() -> None:
    # GIVEN one price for a byte anywhere THEN the tier below is worth less at every size
    start = Division(100, 100, 1)
    knobs = Tuning(interval=20, step_share=1 / 20, least_requests=20, least_gain=0.001)
    same = make(start, most=Division(200, 200, 100_000), tuning=knobs)
    dear = make(
        start, most=Division(200, 800, 100_000), tuning=knobs, prices=Prices(device=8, host=1)
    )
    for allocator in (same, dear):
        serve(allocator, 2_500, 0.0, 4)
        allocator.check()
    assert same.division.host_blocks < 20 < start.device_blocks < same.division.device_blocks
    # AND where device memory is dear the tier gets more
    assert dear.division.host_blocks > start.host_blocks
    assert dear.counts().restored > 0


def test_the_value_of_a_division_is_what_it_would_have_hit() -> None:
    # GIVEN the same requests on every division THEN the meter's value is what each one saved
    def run(division: Division) -> HybridAllocator:
        allocator = make(division, most=Division(300, 300, 10_000))
        serve(allocator, 600, 0.0, 5)
        return allocator

    now = Division(120, 60, 1)
    meter = run(now)
    for _, division in meter.space.neighbours(now):
        if division.object_bytes == now.object_bytes:
            saved_s = run(division).counts().saved_s
            assert meter.value_s(division) == pytest.approx(saved_s, rel=0.02)
    larger = replace(now, device_blocks=180, host_blocks=1)
    assert run(larger).counts().device_hits > meter.counts().device_hits


def test_blocks_in_use_are_not_taken() -> None:
    allocator = make(Division(40, 10, 20_480), most=Division(60, 30, 40_000))
    held = allocator.admit(path(1, 10), 38)
    assert held is not None
    assert allocator.admit(path(2, 3)) is None
    assert allocator.blocks.device.set_limit(20) == 38
    allocator.blocks.device.set_limit(40)
    allocator.finish(held)
    again = allocator.admit(path(1, 10))
    assert again is not None
    assert again.device_hits == 10
    allocator.check()


def test_whole_pages_are_emptied_for_the_others() -> None:
    # GIVEN a block in use in every page WHEN the device gives memory THEN pages become whole
    most = Division(63, 20, 40_000)
    device, host = storages(most)
    allocator = make(
        Division(63, 20, 1), most=most, blocks_per_page=8, device_storage=device, host_storage=host
    )
    held = [allocator.admit(path(each, 2)) for each in range(31)]
    for at, request in enumerate(held):
        assert request is not None
        compute(device, request)
        if at % 4:
            allocator.finish(request)
    kept = [request for at, request in enumerate(held) if at % 4 == 0 and request is not None]
    assert allocator.blocks.device.set_limit(63 - 32) == 63 - 32
    parked = allocator.blocks.device.parked
    assert {block // 8 for block in parked} == set(range(8)) - {block // 8 for block in range(64)
        if block not in parked}  # fmt: skip
    assert allocator.blocks.device.moved_blocks > 0
    allocator.blocks.check()
    for request in kept:
        request.published = True
        assert all(
            (device.layers[0][block] == float(key)).all()
            for block, key in zip(request.block_ids, request.keys, strict=True)
        )


def test_objects_are_kept_by_use_and_compacted() -> None:
    cache = ObjectCache(64 * 100)
    for name in range(100):
        assert cache.put(name, bytes([name]) * 64, cost_s=1.0)
    for name in range(1, 100, 2):
        assert cache.get(name) == bytes([name]) * 64
    assert cache.put("large", b"x" * 64 * 40)  # every second one goes, and what is left moves
    assert cache.get("large") == b"x" * 64 * 40
    assert cache.get(0) is None
    assert cache.get(99) == bytes([99]) * 64
    counts = cache.counts()
    assert (counts.objects, counts.evictions, counts.saved_s) == (61, 40, 51.0)
    assert counts.bytes_moved > 0
    assert not cache.put("too large", bytes(64 * 101))
    assert cache.drop("large")
    assert not cache.drop("large")
    cache.set_limit(64)
    assert len(cache) == 1
    cache.check()


def test_what_cannot_be_is_refused_in_a_line() -> None:
    division = Division(10, 5, 1_000)
    allocator = make(division)
    device, host = storages(division)
    done = allocator.admit(path(1, 2))
    assert done is not None
    allocator.finish(done)
    for call in (
        lambda: allocator.admit([]),
        lambda: allocator.admit([1, 1]),
        lambda: allocator.admit([1, 2], 1),
        lambda: allocator.admit(path(1, 11)),
        lambda: allocator.finish(done),
        lambda: allocator.put_object("a", b"", cost_s=1),
        lambda: allocator.put_object("a", b"a", cost_s=-1),
        lambda: allocator.objects.set_limit(2_000),
        lambda: allocator.blocks.device.set_limit(0),
        lambda: make(division, blocks_per_page=0),
        lambda: make(division, device_storage=device),
        lambda: make(Division(9, 5, 1_000), device_storage=device, host_storage=host),
        lambda: make(Division(10, 5, 0)),
        lambda: make(Division(20, 5, 1_000), most=division),
        lambda: Prices(host=0),
        lambda: Tuning(interval=0),
        lambda: Tuning(step_share=0.9),
        lambda: HybridAllocator(
            10, block_bytes=BLOCK, recompute_s=1, restore_s=0, most=division, start=division
        ),
        lambda: HybridAllocator(
            10**6, block_bytes=BLOCK, recompute_s=1, restore_s=2, most=division
        ),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
    allocator.check()


def test_an_admission_looks_at_no_more_of_the_queue_than_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN a long free queue WHEN a request comes THEN nobody walks all of it."""
    tiers = BlockTiers(most_device=50, most_host=5, device_limit=50, host_limit=5)
    for document in range(12):
        request = tiers.admit(path(document, 4))
        assert request is not None
        tiers.release(request)
    queue = tiers.pool.get_all_free_blocks()
    assert tiers.pool.first_free_blocks(50) == queue
    monkeypatch.setattr(tiers.pool, "get_all_free_blocks", None)
    request = tiers.admit(path(99, 4))
    assert request is not None
    assert request.block_ids == queue[:4]
    tiers.check()
