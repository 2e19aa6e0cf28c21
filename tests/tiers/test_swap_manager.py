"""Blocks out and back: bytes against a dictionary, whatever is moved, evicted, demoted or fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_tier import own_code

from kvatlas.errors import InputError, InvariantError
from kvatlas.storage import LAYOUTS, KVCacheMemoryPool
from kvatlas.tiers import DiskBlocks, HostBlocks, SwapManager

BACKENDS = ["numpy", *(["torch"] if find_spec("torch") else [])]


def make_device(blocks: int = 24, **changes: Any) -> KVCacheMemoryPool:
    sizes = {"num_layers": 2, "block_size": 4, "kv_heads": 2, "head_size": 8}
    return KVCacheMemoryPool(blocks, **{**sizes, **changes})


def fill(device: KVCacheMemoryPool, block: int, key: int) -> None:
    """Write the content of `key`, through the views."""
    for layer, view in enumerate(device.layers):
        numbers = np.random.default_rng((key, layer)).standard_normal(tuple(view.shape[1:]))
        if device.backend == "numpy":
            view[block] = numbers
        else:
            import torch

            view[block] = torch.from_numpy(numbers).to(view.dtype)


def digest_of(key: int, **changes: Any) -> int:
    """Return the digest of a block that holds the content of `key`."""
    device = make_device(1, **changes)
    fill(device, 0, key)
    return int(device.digest([0])[0])


@pytest.fixture
def device() -> KVCacheMemoryPool:
    return make_device()


@pytest.fixture
def swap(device: KVCacheMemoryPool) -> Iterator[SwapManager]:
    manager = SwapManager(device, host_bytes=8 * device.bytes_per_block)
    yield manager
    manager.check()
    manager.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("disk_blocks", [pytest.param(0, marks=pytest.mark.slow), 15])
@pytest.mark.parametrize("policy", own_code(("lru", "lfu")))
def test_what_is_read_back_was_written(
    backend: str, layout: str, disk_blocks: int, policy: str
) -> None:
    """GIVEN random swaps WHEN blocks come back THEN every byte is the content's."""
    rng = random.Random(f"{layout} {disk_blocks}")
    shape: dict[str, Any] = {"backend": backend, "layout": layout, "dtype": "float16"}
    device = make_device(**shape)
    size = device.bytes_per_block
    swap = SwapManager(
        device, host_bytes=7 * size + 5, disk_bytes=disk_blocks * size, policy=policy
    )
    digests = {key: digest_of(key, **shape) for key in range(40)}
    holds: dict[int, int] = {}
    came_back = 0
    for _ in range(300):
        keys = rng.sample(range(40), rng.randint(1, 6))
        blocks = rng.sample(range(device.num_blocks), len(keys))
        found = swap.lookup(keys)
        if found and rng.random() < 0.5:
            swap.swap_in(keys[:found], blocks[:found])
            holds |= dict(zip(blocks[:found], keys[:found], strict=True))
            read = device.digest(blocks[:found]).tolist()
            assert read == [digests[key] for key in keys[:found]]
            came_back += found
        else:
            for key, block in zip(keys, blocks, strict=True):
                fill(device, block, key)
                holds[block] = key
            assert swap.swap_out(keys, blocks) == len(keys)
            assert swap.lookup(keys) == len(keys)
        swap.check()
    assert came_back > 20
    host, disk = swap.host, swap.disk
    assert host.used_bytes <= host.capacity_bytes == 7 * size
    assert host.evicted_blocks > 0
    assert host.write_bandwidth is not None
    assert swap.lookups[1] == came_back
    if disk is None:
        assert disk_blocks == 0
    else:
        assert host.demoted_blocks == host.evicted_blocks == disk.written_blocks + disk.kept_blocks
        assert disk.read_blocks > 0
        assert disk.written_bytes == disk.written_blocks * size
        assert host.read_blocks + disk.read_blocks == came_back
    # The device's own blocks were never touched otherwise.
    assert device.digest(list(holds)).tolist() == [digests[key] for key in holds.values()]
    swap.close()


def test_disk_keeps_what_the_host_evicts(device: KVCacheMemoryPool, tmp_path: Path) -> None:
    """GIVEN room for 4 above room for 100 WHEN 60 contents go out THEN all come back."""
    size = device.bytes_per_block
    swap = SwapManager(
        device, host_bytes=4 * size, disk_bytes=100 * size, disk_path=tmp_path / "tier"
    )
    for key in range(60):
        fill(device, 3, key)
        swap.swap_out([key], [3])
    assert swap.lookup(range(60)) == 60
    for first in range(0, 60, 20):
        keys = list(range(first, first + 20))
        swap.swap_in(keys, list(range(20)))
        assert device.digest(range(20)).tolist() == [digest_of(key) for key in keys]
    assert (tmp_path / "tier").stat().st_size >= 56 * size
    swap.close()


def test_found_stays_while_room_is_made(device: KVCacheMemoryPool, swap: SwapManager) -> None:
    """GIVEN finds that are held WHEN others push in THEN they stay."""
    for key in range(8):
        fill(device, key, key)
    assert swap.swap_out(range(8), range(8)) == 8
    with swap.held([0, 1, 2, 99]) as found:
        assert found.count == 3
        for key in range(20, 26):
            fill(device, 10, key)
            swap.swap_out([key], [10])
        assert swap.lookup([0, 1, 2]) == 3
        swap.load(found, [15, 16, 17])
    assert device.digest([15, 16, 17]).tolist() == [digest_of(key) for key in (0, 1, 2)]
    assert swap.lookup([20]) == 0  # the first of the others had to go for the last
    with swap.held(range(21, 26)) as others, swap.held([0, 1, 2]) as first:
        assert others.count + first.count == 8
        assert swap.swap_out([50, 51], [0, 1]) == 0
        assert swap.host.refused_blocks == 1
    swap.check()


def test_a_batch_larger_than_the_tier_keeps_its_beginning(
    device: KVCacheMemoryPool, swap: SwapManager
) -> None:
    for key in range(20):
        fill(device, key, key)
    assert swap.swap_out(range(20), range(20)) == 8
    assert swap.lookup(range(20)) == 8


def test_one_content_twice_is_one_content(device: KVCacheMemoryPool, swap: SwapManager) -> None:
    for block in (4, 5):
        fill(device, block, 7)
    assert swap.swap_out([7, 7], [4, 5]) == 2
    assert swap.host.written_blocks == 1
    swap.swap_in([7, 7], [9, 10])
    assert set(device.digest([9, 10]).tolist()) == {digest_of(7)}


class _Broken:
    """Bytes that cannot be written any more."""

    def __init__(self, whole: Any) -> None:
        self._whole, self.num_slots = whole, whole.num_slots

    def write(self, block_ids: Any, slots: Any) -> None:
        raise InputError("no room on the disk", field="disk_path")

    def put(self, slots: Any, rows: Any) -> None:
        self.write(slots, rows)

    def take(self, slots: Any) -> Any:
        return self._whole.take(slots)

    def read(self, slots: Any, block_ids: Any) -> None:
        self._whole.read(slots, block_ids)


@pytest.mark.parametrize("policy", own_code(("lru", "lfu")))
def test_what_could_not_be_written_is_not_found(device: KVCacheMemoryPool, policy: str) -> None:
    """GIVEN a write that fails WHEN asked later THEN nobody finds bytes that never arrived."""
    swap = SwapManager(device, host_bytes=8 * device.bytes_per_block, policy=policy)
    for key in range(4):
        fill(device, key, key)
    swap.swap_out([0, 1], [0, 1], [-1, 0], [0, 1])
    whole = swap._host.data
    swap._host.data = _Broken(whole)
    with pytest.raises(InputError, match="no room"):
        swap.swap_out([0, 1, 2, 3], [0, 1, 2, 3], [-1, 0, 1, 2], [0, 1, 2, 3])
    swap.check()
    assert swap.host.used_bytes == 2 * device.bytes_per_block
    swap._host.data = whole
    assert swap.lookup([0, 1, 2]) == 2
    assert swap.swap_out([2, 3], [2, 3], [1, 2], [2, 3]) == 2
    swap.swap_in([0, 1, 2, 3], [10, 11, 12, 13])
    assert device.digest(range(10, 14)).tolist() == [digest_of(key) for key in range(4)]
    swap.check()


def test_moves_are_carried_out_in_their_order(device: KVCacheMemoryPool) -> None:
    """GIVEN a slot that is read, then overwritten, then read again THEN each finds its own."""
    host = HostBlocks(device, 3)
    for block, key in ((1, 1), (2, 2), (3, 3)):
        fill(device, block, key)
    moves = [[0, 1, 0], [0, 2, 1], [1, 5, 0], [0, 3, 0], [0, 1, 0], [1, 6, 0], [1, 7, 1], [1, 7, 0]]
    assert host.apply(moves) == len(moves)
    assert device.digest([5, 6, 7]).tolist() == [digest_of(key) for key in (1, 1, 1)]
    assert host.apply(np.zeros((0, 3), np.int32)) == 0


def test_rows_survive_a_file(device: KVCacheMemoryPool) -> None:
    disk, rng = DiskBlocks(device, 10), np.random.default_rng(4)
    rows = rng.integers(0, 256, (6, device.bytes_per_block), np.uint8)
    slots = np.array([7, 8, 9, 2, 0, 1], np.int32)
    disk.put(slots, rows)
    assert (disk.take(slots[::-1].copy()) == rows[::-1]).all()
    disk.close()
    with pytest.raises(InputError, match="cannot be used"):
        disk.take(slots)


def test_resize_and_discard(device: KVCacheMemoryPool, swap: SwapManager) -> None:
    size = device.bytes_per_block
    swap.swap_out(range(8), range(8))
    assert swap.resize_host(3 * size + 1) == 3 * size
    assert swap.host.capacity_bytes == 3 * size
    kept = [key for key in range(8) if swap.lookup([key])]
    assert swap.discard([kept[0], 99]) == 1
    assert swap.lookup([kept[0]]) == 0
    assert swap.resize_host(8 * size) == 2 * size


def test_refuses_bad_input(device: KVCacheMemoryPool, swap: SwapManager, tmp_path: Path) -> None:
    """GIVEN nonsense THEN one clear line, and nothing has changed."""
    size = device.bytes_per_block
    for error, call in (
        ("not even one block", lambda: SwapManager(device, host_bytes=size - 1)),
        ("not even one block", lambda: SwapManager(device, host_bytes=size, disk_bytes=3)),
        (
            "cannot be made",
            lambda: SwapManager(
                device, host_bytes=size, disk_bytes=size, disk_path=tmp_path / "no" / "tier"
            ),
        ),
        ("no tier holds this content", lambda: swap.swap_in([5], [1])),
        ("as many blocks as keys", lambda: swap.swap_out([5, 6], [1])),
        ("no such block", lambda: swap.swap_out([5], [24])),
        ("from 0 to below", lambda: swap.swap_out([-5], [2])),
        ("one for each key", lambda: swap.swap_out([5], [2], parents=[1, 2])),
    ):
        with pytest.raises(InputError, match=error) as refused:
            call()
        assert "\n" not in str(refused.value)
    swap.swap_out([5], [1])
    with pytest.raises(InputError, match="named twice"):
        swap.swap_in([5, 5], [1, 1])
    with swap.held([5]) as found, pytest.raises(InputError, match="as many blocks as were found"):
        swap.load(found, [1, 2])
    assert swap.host.read_blocks == 0


def test_check_sees_contents_that_nobody_wrote(swap: SwapManager) -> None:
    swap._host.index.release(swap._host.index.reserve([1]).slots)
    with pytest.raises(InvariantError, match="ever written"):
        swap.check()
    swap.discard([1])


@pytest.mark.parametrize("disk_blocks", [0, 9])
def test_what_is_held_cannot_be_forgotten(device: KVCacheMemoryPool, disk_blocks: int) -> None:
    """GIVEN finds on every level WHEN told to forget them THEN it refuses, and they stay."""
    size = device.bytes_per_block
    swap = SwapManager(device, host_bytes=2 * size, disk_bytes=disk_blocks * size)
    for key in range(4):
        fill(device, key, key)
        swap.swap_out([key], [key])
    keys = range(4) if disk_blocks else [2, 3]
    with swap.held(keys) as found:
        for key in keys:
            with pytest.raises(InputError, match="pinned cannot be forgotten"):
                swap.discard([key])
        with pytest.raises(InputError, match="contents are held"):
            swap.clear()
        swap.load(found, range(10, 10 + len(keys)))
    digests = device.digest(range(10, 10 + len(keys))).tolist()
    assert digests == [digest_of(key) for key in keys]
    assert swap.discard(list(keys)) == len(keys)
    swap.check()
    swap.close()


def test_clear_forgets_every_level(device: KVCacheMemoryPool) -> None:
    size = device.bytes_per_block
    swap = SwapManager(device, host_bytes=2 * size, disk_bytes=9 * size)
    swap.swap_out([1, 2, 3, 4], range(4))
    swap.swap_out([5, 6], range(2))
    assert swap.lookup([5, 6, 1]) == 3
    swap.clear()
    assert [swap.lookup([key]) for key in range(1, 7)] == [0] * 6
    fill(device, 3, 1)
    swap.swap_out([1], [3])
    swap.swap_in([1], [9])
    assert device.digest([9]).tolist() == [digest_of(1)]
    swap.check()
    swap.close()


def test_every_level_is_let_go(device: KVCacheMemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a host level that fails to let go THEN the disk's pins go all the same."""
    size = device.bytes_per_block
    swap = SwapManager(device, host_bytes=size, disk_bytes=9 * size)
    for key in range(2):
        swap.swap_out([key], [key])

    def broken(slots: Any) -> None:
        raise InvariantError("broken books")

    monkeypatch.setattr(swap._host.index, "release", broken)
    with pytest.raises(InvariantError, match="broken books"), swap.held([0, 1]):
        pass
    assert swap._disk is not None
    assert swap._disk.index.stats.pinned == 0
    swap.close()


def test_sizes_may_be_numpy_integers(device: KVCacheMemoryPool) -> None:
    size = np.int64(2 * device.bytes_per_block)
    swap = SwapManager(device, host_bytes=size)  # type: ignore[arg-type]
    assert swap.host.capacity_bytes == size
    with pytest.raises(InputError, match="not even one block"):
        SwapManager(device, host_bytes=1e9)  # type: ignore[arg-type]
