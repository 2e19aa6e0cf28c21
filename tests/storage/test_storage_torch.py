"""Pools of torch: on the CPU the same bytes as NumPy's, on a device the same content.

The accelerator's code runs here on the CPU, where torch does the same indexed operations; with a
CUDA device it runs there too.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed here")

import torch
from naive_storage import Naive, random_operation

from kvatlas.errors import InputError
from kvatlas.storage import DTYPES, LAYOUTS, KVCacheMemoryPool
from kvatlas.storage.device import DeviceMemory

pytestmark = pytest.mark.vllm

SHAPE: dict[str, Any] = {"num_layers": 3, "block_size": 4, "kv_heads": 2, "head_size": 6}
CUDA = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))
]


def make(where: str, blocks: int, **more: Any) -> KVCacheMemoryPool:
    """Return a torch pool: on the CPU, on the CPU through a device's code, or on CUDA."""
    device = "cuda" if where == "cuda" else "cpu"
    pool = KVCacheMemoryPool(blocks, **{**SHAPE, **more}, backend="torch", device=device)
    if where == "device code":
        pool.memory = DeviceMemory(pool.placed, "cpu")
    return pool


@pytest.mark.parametrize("where", ["cpu", "device code", *CUDA])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_operations(where: str, dtype: str, layout: str) -> None:
    # GIVEN a pool of random bytes WHEN operations come at random THEN every byte is right
    rng = Random(dtype + layout)
    pool = make(where, rng.choice((3, 17)), dtype=dtype, layout=layout, zero_on_free=True)
    pool.check()
    naive = Naive(pool)
    naive.fill(rng.randrange(100))
    for _ in range(40):
        random_operation(rng, naive)
        naive.agree()
    pool.check()
    assert str(pool.layers[0].dtype) == f"torch.{dtype}"


@pytest.mark.parametrize("target_where", ["cpu", "device code", "numpy", *CUDA])
@pytest.mark.parametrize("source_where", ["cpu", "device code", "numpy", *CUDA])
@pytest.mark.parametrize("target_layout", ["layer", "head", "BHLNC"])
@pytest.mark.parametrize("source_layout", ["cross-layer", "head", "LHBNC"])
def test_any_pool_to_any_other(
    source_where: str, target_where: str, source_layout: str, target_layout: str
) -> None:
    # GIVEN pools of other backends, devices and layouts WHEN blocks are copied
    def one(where: str, blocks: int, layout: str) -> Naive:
        if where == "numpy":
            return Naive(KVCacheMemoryPool(blocks, **SHAPE, layout=layout))
        return Naive(make(where, blocks, layout=layout))

    source, target = one(source_where, 9, source_layout), one(target_where, 7, target_layout)
    source.fill(1)
    target.fill(2)
    froms, tos = [8, 0, 0, 5], [2, 6, 0, 3]
    source.pool.copy_to(target.pool, froms, tos)
    for frm, to in zip(froms, tos, strict=True):
        target.blocks[to] = source.blocks[frm].copy()
    # THEN every byte has arrived and no other has changed
    source.agree()
    target.agree()
    assert source.pool.digest(froms).tolist() == target.pool.digest(tos).tolist()


def test_many_stages_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN stages and buffers of a few blocks WHEN a pool is turned round and copied out and in
    monkeypatch.setattr("kvatlas.storage.device.STAGE_BYTES", 3000)
    monkeypatch.setattr("kvatlas.storage.exchange.BUFFER_BYTES", 5000)
    naive = Naive(make("device code", 40))
    naive.fill(7)
    pool = naive.pool
    assert pool.bytes_per_block < 3000
    ids = list(range(40))
    pool.move(ids, ids[::-1])
    naive.move(ids, ids[::-1])
    host = KVCacheMemoryPool(40, **SHAPE, layout="head")
    pool.copy_to(host, ids, ids)
    pool.move(ids[:39], ids[1:])
    naive.move(ids[:39], ids[1:])
    naive.agree()
    host.copy_to(pool, ids[5:], ids[:35])
    assert pool.digest(ids[:35]).tolist() == host.digest(ids[5:]).tolist()


def test_views_are_tensors_over_the_memory() -> None:
    # GIVEN a pool of torch on the CPU WHEN a view is written THEN the memory has it
    pool = make("cpu", 4, dtype="bf16")
    pool.layers[2][1, 0, 3, 1, 5] = 1.5
    pool.value(0)[3] = 2.0
    assert pool.key(2)[1, 3, 1, 5] == 1.5
    assert pool.memory.bytes.ctypes.data == pool.layers[0].data_ptr()
    assert int((pool.memory.bytes != 0).sum()) == 2 + 48  # 1.5 is 0x3FC0, 2.0 is 0x4000


def test_buffers_are_tensors() -> None:
    # GIVEN a pool of torch WHEN blocks are gathered THEN they are a tensor; NumPy's fit too
    naive = Naive(make("cpu", 5))
    naive.fill(1)
    rows = naive.pool.gather([1, 4])
    assert rows.dtype == torch.uint8
    naive.pool.scatter([0, 2], rows.numpy())
    naive.move([1, 4], [0, 2])
    other = torch.zeros_like(rows)
    assert naive.pool.gather([1, 4], out=other) is other
    assert torch.equal(other, rows)
    naive.agree()


def test_what_torch_cannot_use_is_one_line() -> None:
    for device in ("nonsense", "cuda:77"):
        with pytest.raises(InputError, match="device: torch cannot use this device") as error:
            KVCacheMemoryPool(4, **SHAPE, backend="torch", device=device)
        assert "\n" not in str(error.value)
    pool = make("device code", 4)
    with pytest.raises(InputError, match="buffer: a buffer on another device"):
        pool.scatter([1], np.zeros((1, pool.bytes_per_block), np.uint8))
    rows = make("cpu", 4).gather([0])
    with pytest.raises(InputError, match="out: a buffer with gaps"):
        make("cpu", 4).gather([0], out=rows.expand(2, -1)[:1, :].repeat(1, 2)[:, ::2])
