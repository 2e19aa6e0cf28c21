"""Where each number lies, worked out by hand, and what a block costs beside the model's pages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from kvatlas.errors import InvariantError
from kvatlas.model import kv_layers, load_model
from kvatlas.storage import LAYOUTS, KVCacheMemoryPool
from kvatlas.storage.layouts import common_pieces

BLOCKS, LAYERS, SLOTS, HEADS, DIMS = 5, 3, 4, 2, 6


ORDERS = {
    "block": "layer block kv slot head dim",
    "head": "layer block kv head slot dim",
    "layer": "layer kv block slot head dim",
    "cross-layer": "block layer kv slot head dim",
    "nano-vllm": "kv layer block slot head dim",
    "LBNHC": "layer block slot head kv dim",
    "LBHNC": "layer block head slot kv dim",
    "LHBNC": "layer head block slot kv dim",
    "BLNHC": "block layer slot head kv dim",
    "BLHNC": "block layer head slot kv dim",
    "BHLNC": "block head layer slot kv dim",
}
LENGTHS = {"layer": LAYERS, "block": BLOCKS, "kv": 2, "slot": SLOTS, "head": HEADS, "dim": DIMS}


def place(layout: str, **index: int) -> int:
    """Say at which number of the memory an element lies."""
    at = 0
    for axis in ORDERS[layout].split():
        at = at * LENGTHS[axis] + index[axis]
    return at


def elements(**fixed: int) -> Iterator[dict[str, int]]:
    """Yield the index of every element, or of those of one block."""
    axes = [range(length) for length in LENGTHS.values()]
    for index in product(*axes):
        named = dict(zip(LENGTHS, index, strict=True))
        if all(named[axis] == at for axis, at in fixed.items()):
            yield named


def test_every_layout_is_worked_out_here() -> None:
    assert set(ORDERS) == set(LAYOUTS)


def small(layout: str) -> KVCacheMemoryPool:
    """Return a pool whose element i of the memory is i."""
    pool = KVCacheMemoryPool(
        BLOCKS,
        num_layers=LAYERS,
        block_size=SLOTS,
        kv_heads=HEADS,
        head_size=DIMS,
        layout=layout,
    )
    numbers = pool.memory.bytes.view(np.float32)
    numbers[:] = np.arange(len(numbers))
    return pool


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_lies_where_the_layout_says(layout: str) -> None:
    pool = small(layout)
    for index in elements():
        layer, block, *rest = index.values()
        assert pool.layers[layer][block, *rest] == place(layout, **index)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_planes_first(layout: str) -> None:
    # GIVEN a block WHEN it is gathered THEN its row is the block's bytes in rising order of place
    pool = small(layout)
    (row,) = pool.gather([3]).view(np.float32)
    assert row.tolist() == sorted(place(layout, **index) for index in elements(block=3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layers_view_is_as_engines_have_it(layout: str) -> None:
    pool = small(layout)
    assert pool.layers[0].shape == (BLOCKS, 2, SLOTS, HEADS, DIMS)
    contiguous = pool.layers[0].flags.c_contiguous
    assert contiguous == (layout == "block")
    if layout == "head":
        assert pool.layers[0].transpose(0, 1, 3, 2, 4).flags.c_contiguous
    if layout == "layer":
        assert pool.key(1).flags.c_contiguous


def test_pieces_are_as_few_as_can_be() -> None:
    placed = {name: small(name).placed for name in LAYOUTS}
    assert common_pieces(placed["block"], placed["block"]) == ("layer",)
    assert common_pieces(placed["cross-layer"], placed["cross-layer"]) == ()
    assert common_pieces(placed["cross-layer"], placed["block"]) == ("layer",)
    assert common_pieces(placed["layer"], placed["cross-layer"]) == ("layer", "kv")
    assert common_pieces(placed["LBNHC"], placed["BLNHC"]) == ("layer",)
    assert common_pieces(placed["BHLNC"], placed["BHLNC"]) == ()
    assert set(common_pieces(placed["head"], placed["block"])) == {"layer", "kv", "slot", "head"}


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-8b"])
@pytest.mark.parametrize("dtype", ["float16"])
def test_a_block_costs_what_the_model_says(model: str, dtype: str) -> None:
    # GIVEN the pages that vLLM gives a model's layers WHEN a pool is made of that shape
    pages = kv_layers(load_model(model), 16, dtype)
    facts = load_model(model).layers
    pool = KVCacheMemoryPool(
        2,
        num_layers=len(facts),
        block_size=16,
        kv_heads=facts[0].kv_heads,
        head_size=facts[0].head_size,
        dtype=dtype,
    )
    # THEN both agree on the bytes of a block
    assert pool.bytes_per_block == sum(spec.page_size_bytes for spec in pages.values())


def test_check_finds_what_is_broken() -> None:
    # GIVEN sound pools WHEN one promise of each is broken THEN check says which
    pool = small("block")
    pool.layers  # noqa: B018 - the views are made
    vars(pool)["layers"] = tuple(view.copy() for view in pool.layers)
    with pytest.raises(InvariantError, match="layer 0 is a copy"):
        pool.check()
    pool = small("layer")
    vars(pool)["layers"] = (pool.layers[0],) * LAYERS
    with pytest.raises(InvariantError, match="layer 1 is a copy"):
        pool.check()
    pool = small("head")
    pool.book._marks[0, 2] = 5
    with pytest.raises(InvariantError, match="still marked"):
        pool.check()
    pool = small("cross-layer")
    pool.free([1])
    pool.zero_on_free = True
    with pytest.raises(InvariantError, match="not zeroed"):
        pool.check()
