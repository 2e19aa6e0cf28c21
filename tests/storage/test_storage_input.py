"""Bad input is one line: what, where, the value, the remedy; and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive_storage import Naive

from kvatlas.errors import InputError
from kvatlas.storage import KVCacheMemoryPool

SHAPE: dict[str, Any] = {"num_layers": 2, "block_size": 4, "kv_heads": 2, "head_size": 3}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_layers": 0}, "num_layers: a whole number from 1 on is needed (got 0)"),
        ({"block_size": 2.0}, "block_size: a whole number from 1 on is needed (got 2.0)"),
        ({"kv_heads": True}, "kv_heads: a whole number from 1 on is needed (got True)"),
        ({"head_size": -1}, "head_size: a whole number from 1 on is needed (got -1)"),
        ({"layout": "rows"}, "layout: unknown layout (got rows); use one of block, head, layer, c"),
        ({"dtype": "int8"}, "dtype: unknown number format (got int8); use one of float32, float16"),
        ({"dtype": np.float32}, "dtype: unknown number format"),
        ({"dtype": "bf16"}, "dtype: NumPy has no bfloat16 (got bf16); use backend='torch'"),
        ({"dtype": "fp8"}, "dtype: NumPy has no float8_e4m3fn (got fp8); use backend='torch'"),
        ({"backend": "jax"}, "backend: unknown backend (got jax); use numpy or torch"),
        ({"device": "cuda"}, "device: NumPy's memory is the CPU's (got cuda); use torch"),
        ({"block_size": 2**40, "head_size": 2**30}, "num_blocks: no memory for so many blocks"),
    ],
)
def test_bad_pools(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        KVCacheMemoryPool(4, **{**SHAPE, **change})
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


Call = Callable[[KVCacheMemoryPool], Any]
ONE_ID: list[tuple[Any, str]] = [
    ([4], "no such block (got 4); ids run from 0 to 3"),
    ([0, -1], "no such block (got -1); ids run from 0 to 3"),
    ([1.0], "not a list of block ids (got [1.0]); give integers"),
    ([True], "not a list of block ids (got [True]); give integers"),
    ([[1]], "not a list of block ids (got [[1]]); give integers"),
    (2, "not a list of block ids (got 2); give integers"),
    (["a"], "not a list of block ids (got ['a']); give integers"),
    ([2**70], "not a list of block ids"),
    (np.array([2**63], np.uint64), "no such block (got 9223372036854775808)"),
]
CALLS: dict[str, Callable[[KVCacheMemoryPool, Any], Any]] = {
    "copy from": lambda pool, ids: pool.copy(ids, [0]),
    "copy to": lambda pool, ids: pool.copy([0], ids),
    "move from": lambda pool, ids: pool.move(ids, [0]),
    "move to": lambda pool, ids: pool.move([0], ids),
    "out": lambda pool, ids: pool.copy_to(KVCacheMemoryPool(4, **SHAPE), ids, [0]),
    "in": lambda pool, ids: KVCacheMemoryPool(4, **SHAPE).copy_to(pool, [0], ids),
    "gather": lambda pool, ids: pool.gather(ids),
    "scatter": lambda pool, ids: pool.scatter(ids, pool.gather([0])),
    "free": lambda pool, ids: pool.free(ids),
    "zero": lambda pool, ids: pool.zero(ids),
    "digest": lambda pool, ids: pool.digest(ids),
}


def refused(pool: KVCacheMemoryPool, call: Call) -> str:
    """Return the one line of the error; the pool is as it was."""
    before, stats = pool.memory.bytes.copy(), pool.stats()
    with pytest.raises(InputError) as error:
        call(pool)
    assert (pool.memory.bytes == before).all()
    assert pool.stats().copied_bytes == stats.copied_bytes
    assert pool.stats().zeroed_bytes == stats.zeroed_bytes
    pool.check()
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("ids", "says"), ONE_ID)
def test_ids_that_are_none(name: str, ids: Any, says: str) -> None:
    pool = KVCacheMemoryPool(4, **SHAPE, zero_on_free=True)
    Naive(pool).fill(0)
    assert says in refused(pool, lambda pool: CALLS[name](pool, ids))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: p.copy([0, 1], [2, 2]), "target_ids: a block is named twice (got 2)"),
        (lambda p: p.copy([0, 1], [2, 1]), "target_ids: a block is both source and target (got 1)"),
        (lambda p: p.copy([0, 1], [2]), "target_ids: one target per source is needed (got 1)"),
        (lambda p: p.move([0, 0], [2, 1]), "source_ids: a block is named twice (got 0)"),
        (lambda p: p.move([0, 1], [2, 2]), "target_ids: a block is named twice (got 2)"),
        (lambda p: p.move([0, 1], [2]), "target_ids: one target per source is needed (got 1)"),
        (lambda p: p.copy_to(p, [0], [1]), "other: a pool cannot be its own target; use copy"),
        (lambda p: p.free([1, 1]), "block_ids: a block is named twice (got 1)"),
        (lambda p: p.zero([3, 0, 3]), "block_ids: a block is named twice (got 3)"),
        (lambda p: p.scatter([1, 1], p.gather([0, 2])), "block_ids: a block is named twice"),
        (lambda p: p.scatter([1], p.gather([0, 2])), "buffer: a buffer of another shape (got (2"),
        (lambda p: p.scatter([1], [0]), "buffer: a buffer of another shape"),
        (lambda p: p.scatter([1], p.gather([0]).view("i1")), "buffer: a buffer of another dtype"),
        (lambda p: p.gather([1], out=p.gather([0])[:, ::-1]), "out: a buffer with gaps, or a read"),
        (lambda p: p.gather([1], out=p.gather([0])[0]), "buffer: a buffer of another shape"),
        (
            lambda p: p.gather([1], out=p.memory.bytes[: p.bytes_per_block].reshape(1, -1)),
            "out: a buffer in the pool's own memory",
        ),
        (lambda p: p.key(2), "layer: no such layer (got 2); layers run from 0 to 1"),
        (lambda p: p.value(-1), "layer: no such layer (got -1)"),
    ],
)
def test_ids_that_do_not_fit_together(call: Call, says: str) -> None:
    pool = KVCacheMemoryPool(4, **SHAPE)
    Naive(pool).fill(0)
    assert refused(pool, call).startswith(says)


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 3},
        {"block_size": 2},
        {"kv_heads": 1},
        {"head_size": 4},
        {"dtype": "float16"},
    ],
)
def test_pools_of_other_blocks(change: dict[str, Any]) -> None:
    other = KVCacheMemoryPool(4, **{**SHAPE, **change})
    text = refused(KVCacheMemoryPool(4, **SHAPE), lambda pool: pool.copy_to(other, [0], [1]))
    assert text.startswith(f"other: the pools' blocks differ in {next(iter(change))}")


def test_a_read_only_buffer_is_read_but_not_written() -> None:
    pool = KVCacheMemoryPool(4, **SHAPE)
    rows = pool.gather([0])
    rows.flags.writeable = False
    pool.scatter([1], rows)
    assert "read-only" in refused(pool, lambda pool: pool.gather([1], out=rows))


def test_sizes_may_be_numpy_integers() -> None:
    pool = KVCacheMemoryPool(np.int64(4), **{**SHAPE, "head_size": np.int32(3)})  # type: ignore[arg-type]
    assert type(pool.bytes_per_block) is int
    assert pool.total_bytes == KVCacheMemoryPool(4, **SHAPE).total_bytes
    assert pool.key(np.int64(1)).shape == (4, 4, 2, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [1.0, True, None, "0", 2, -1])
def test_bad_layers(layer: Any) -> None:
    for view in (KVCacheMemoryPool(4, **SHAPE).key, KVCacheMemoryPool(4, **SHAPE).value):
        with pytest.raises(InputError, match="no such layer"):
            view(layer)
