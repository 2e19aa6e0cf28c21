"""Named layouts are vLLM's: every stride as vLLM computes it."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm.v1.kv_cache_layout", reason="the real vLLM is not installed here")

import torch
from vllm.v1.kv_cache_interface import FullAttentionSpec, compute_layout_strides
from vllm.v1.kv_cache_layout import KVCacheLayout

from kvatlas.storage import LAYOUTS, KVCacheMemoryPool

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("layout", list(KVCacheLayout), ids=lambda layout: layout.name)
def test_strides_are_vllms(layout: KVCacheLayout) -> None:
    # GIVEN five layers of vLLM's attention WHEN a pool is made in the layout of that name
    spec = FullAttentionSpec(block_size=16, num_kv_heads=4, head_size=64, dtype=torch.bfloat16)
    pool = KVCacheMemoryPool(
        7,
        num_layers=5,
        block_size=16,
        kv_heads=4,
        head_size=64,
        dtype="bfloat16",
        layout=layout.name,
        backend="torch",
    )
    # THEN a layer, block, head and slot lie as far apart, and keys lie before values
    layer, block, head, slot, _ = compute_layout_strides(spec, 7, 5, layout)
    strides = pool.placed.strides
    ours = [strides[axis] for axis in ("layer", "block", "head", "slot")]
    assert ours == [layer, block, head, slot]
    assert (strides["kv"], strides["dim"]) == (64 * 2, 2)
    assert pool.total_bytes == 7 * 5 * spec.page_size_bytes
    assert {each.name for each in KVCacheLayout} <= set(LAYOUTS)
