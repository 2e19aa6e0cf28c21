"""Blocks the slow and obvious way: one array per block, and a pool beside it that must agree.

Owns: the model, the comparison, random operations. Numbers are compared as bytes, so that every
dtype and any bit pattern will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.storage import KVCacheMemoryPool


def as_bytes(array: Any) -> NDArray[np.uint8]:
    """Return a view or tensor (n, 2, slots, heads, dims) as bytes, the last axis that of one."""
    if not isinstance(array, np.ndarray):
        import torch

        array = array.contiguous().view(torch.uint8).cpu().numpy()
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array).view(np.uint8)


class Naive:
    """What every block of a pool must hold: `blocks[b]` is (layers, 2, slots, heads, bytes)."""

    def __init__(self, pool: KVCacheMemoryPool) -> None:
        self.pool = pool
        layers = [as_bytes(layer) for layer in pool.layers]
        self.blocks = [
            np.stack([layer[block] for layer in layers]) for block in range(pool.num_blocks)
        ]

    def fill(self, seed: int) -> None:
        """Write random bytes through the views, slot by slot as an engine does."""
        rng = np.random.default_rng(seed)
        for block, held in enumerate(self.blocks):
            held[...] = rng.integers(0, 256, held.shape, np.uint8)
            for layer, view in enumerate(self.pool.layers):
                write(view, block, held[layer])

    def agree(self) -> None:
        """Compare every byte of every block, through the views."""
        for layer, view in enumerate(self.pool.layers):
            shown = as_bytes(view)
            for block, held in enumerate(self.blocks):
                assert (shown[block] == held[layer]).all(), (self.pool.layout.name, layer, block)

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Read all, then write all."""
        before = [self.blocks[source].copy() for source in sources]
        for target, held in zip(targets, before, strict=True):
            self.blocks[target] = held

    def zero(self, ids: Sequence[int]) -> None:
        """Zero each."""
        for block in ids:
            self.blocks[block] = np.zeros_like(self.blocks[block])

    def agree_digests(self, ids: Sequence[int]) -> None:
        """Equal content has equal digests, other content others; and they are xxHash's own."""
        digests = self.pool.digest(ids).tolist()
        held = [self.blocks[block].tobytes() for block in ids]
        assert len(set(zip(held, digests, strict=True))) == len(set(held)) == len(set(digests))
        if find_spec("xxhash"):
            import xxhash

            assert digests == [xxhash.xxh64_intdigest(each) for each in held]


def write(view: Any, block: int, held: NDArray[np.uint8]) -> None:
    """Write the bytes (2, slots, heads, bytes) into a view of a layer."""
    if isinstance(view, np.ndarray):
        view[block] = held.view(view.dtype)
    else:
        import torch

        view[block] = torch.from_numpy(held).view(view.dtype)


def random_move(rng: Random, num_blocks: int) -> tuple[list[int], list[int]]:
    """Return a partial permutation: scattered, a cycle, two runs exchanged, or a shift."""
    kind = rng.choice(("scattered", "cycles", "exchange", "shift"))
    count = rng.randint(0, num_blocks)
    if kind == "scattered":
        return rng.sample(range(num_blocks), count), rng.sample(range(num_blocks), count)
    if kind == "cycles":
        ids = rng.sample(range(num_blocks), count)
        return ids, rng.sample(ids, count)
    half = num_blocks // 2
    if kind == "exchange":
        ids = list(range(num_blocks - num_blocks % 2))
        return ids, ids[half:] + ids[:half]
    by = rng.randint(1, max(1, half))
    ids = list(range(by, num_blocks))
    shifted = [block - by for block in ids]
    return (ids, shifted) if rng.random() < 0.5 else (shifted, ids)


def random_operation(rng: Random, naive: Naive) -> None:
    """Do one random operation on both."""
    pool, blocks = naive.pool, range(naive.pool.num_blocks)
    kind = rng.choice(("move", "copy", "scatter", "gather", "free", "zero", "digest"))
    if kind == "move":
        sources, targets = random_move(rng, len(blocks))
        pool.move(sources, targets)
        naive.move(sources, targets)
        if pool.zero_on_free:
            naive.zero(sorted(set(sources) - set(targets)))
        return
    ids = rng.sample(blocks, rng.randint(0, len(blocks)))
    if kind == "copy":
        others = sorted(set(blocks) - set(ids))
        sources = [rng.choice(others) for _ in ids] if others else []
        pool.copy(sources, ids[: len(sources)])
        naive.move(sources, ids[: len(sources)])
    elif kind in ("gather", "scatter"):
        wanted = [rng.choice(blocks) for _ in ids]
        rows = pool.gather(wanted)
        assert tuple(rows.shape) == (len(ids), pool.bytes_per_block)
        if kind == "scatter":
            pool.scatter(ids, rows)
            naive.move(wanted, ids)
    elif kind == "digest":
        naive.agree_digests(ids)
    else:
        getattr(pool, kind)(ids)
        if kind == "zero" or pool.zero_on_free:
            naive.zero(ids)
