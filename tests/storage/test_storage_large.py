"""Copies large enough to be shared out over threads and to go past the caches."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kvatlas.storage import KVCacheMemoryPool, host, threads

BLOCKS = 700


def numbered(layout: str, shape: dict[str, Any]) -> KVCacheMemoryPool:
    """Return a pool whose every number is its own."""
    pool = KVCacheMemoryPool(BLOCKS, **shape, layout=layout)
    for layer, view in enumerate(pool.layers):
        count = view.size
        view[...] = np.arange(layer * count, (layer + 1) * count, dtype=np.float32).reshape(
            view.shape
        )
    return pool


@pytest.mark.parametrize("layout", ["block", "layer", "cross-layer", "nano-vllm", "LHBNC"])
@pytest.mark.parametrize(
    "shape",
    [
        {"num_layers": 3, "block_size": 16, "kv_heads": 2, "head_size": 64},
        {"num_layers": 1, "block_size": 11, "kv_heads": 3, "head_size": 97},  # odd lines
    ],
    ids=["aligned", "odd"],
)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_large_operations(
    layout: str, shape: dict[str, Any], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a pool of some ten MiB, and a number of threads
    monkeypatch.setattr(threads, "num_threads", lambda: workers)
    pool = numbered(layout, shape)
    half = BLOCKS // 2 * pool.bytes_per_block
    monkeypatch.setattr(host, "STREAM_FROM_BYTES", half // 2)
    assert half > host.THREADS_FROM_BYTES
    rng = np.random.default_rng(workers)
    order = rng.permutation(BLOCKS)
    wanted = [layer.copy() for layer in pool.layers]

    def both(sources: NDArray[Any], targets: NDArray[Any]) -> None:
        for layer in wanted:
            layer[targets] = layer[sources]

    # WHEN blocks are copied, moved in chains and cycles, gathered and scattered, zeroed
    pool.copy(order[:300], order[300:600])
    both(order[:300], order[300:600])
    pool.move(order[:500], rng.permutation(order[:500]))
    pool.move(order[:400], order[200:600])
    other = rng.permutation(BLOCKS)
    pool.move(other, np.roll(other, 1))
    pool.move(np.arange(3, BLOCKS), np.arange(BLOCKS - 3))
    # THEN it is what the same does in a fresh generator's order
    rng = np.random.default_rng(workers)
    rng.permutation(BLOCKS)
    both(order[:500], rng.permutation(order[:500]))
    both(order[:400], order[200:600])
    other = rng.permutation(BLOCKS)
    both(other, np.roll(other, 1))
    both(np.arange(3, BLOCKS), np.arange(BLOCKS - 3))
    rows = np.empty(350 * pool.bytes_per_block + 24, np.uint8)[24:]  # not on a line
    pool.gather(order[:350], out=rows.reshape(350, -1))
    pool.scatter(order[350:], rows.reshape(350, -1))
    both(order[:350], order[350:])
    pool.zero(order[5:500])
    for view, layer in zip(pool.layers, wanted, strict=True):
        layer[order[5:500]] = 0
        assert (view == layer).all()
    pool.check()


@pytest.mark.parametrize("parts", [1, 2, 3, 8, 50])
def test_shares_cover_every_item_once(parts: int) -> None:
    rng = np.random.default_rng(parts)
    for _ in range(50):
        weights = rng.integers(1, 9, int(rng.integers(1, 40)))
        before = np.append(0, np.cumsum(weights)).tolist()
        found = threads.shares(before, parts)
        assert [item for first, last in found for item in range(first, last)] == list(
            range(len(weights))
        )
        # no share is heavier than the even one by more than one item
        heaviest = max(before[last] - before[first] for first, last in found)
        assert heaviest <= before[-1] / parts + weights.max()


def test_an_error_in_a_thread_is_raised_after_all_have_ended() -> None:
    # GIVEN work of which two shares fail WHEN it runs THEN the error comes out, and none is left
    done: list[int] = []

    def work(first: int, last: int) -> None:
        if first in (1, 2):
            raise ValueError(f"share {first}")
        done.append(first)

    with pytest.raises(ValueError, match="share 1"):
        threads.in_threads(work, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert sorted(done) == [0, 3]
    with pytest.raises(ValueError, match="share 1"):
        threads.in_threads(work, [(1, 2), (4, 5)])
    assert sorted(done) == [0, 3, 4]
    threads.in_threads(work, [])


def test_two_pools_in_two_threads() -> None:
    # GIVEN two pools WHEN each is moved in a thread of its own THEN neither disturbs the other
    shape: dict[str, Any] = {"num_layers": 2, "block_size": 4, "kv_heads": 2, "head_size": 64}
    pools = [numbered("block", shape) for _ in range(2)]
    wanted = [layer.copy() for layer in pools[0].layers]

    def rotate(pool: KVCacheMemoryPool) -> None:
        for _ in range(7):
            pool.move(np.arange(BLOCKS), np.roll(np.arange(BLOCKS), 100))

    running = [threading.Thread(target=rotate, args=(pool,)) for pool in pools]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for pool in pools:  # seven rotations by 100 of 700 blocks
        assert all((view == layer).all() for view, layer in zip(pool.layers, wanted, strict=True))
