"""Groups of different attention share one pool; each frees what it no longer reads."""

from __future__ import annotations

import pytest

from kvatlas.engine import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    EngineConfig,
    FullAttentionSpec,
    KVCacheManager,
    KVCacheSpec,
    MambaSpec,
    Request,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError

FULL = FullAttentionSpec(block_size=4)


def manager(*groups: KVCacheSpec, caching: bool = True, blocks: int = 60) -> KVCacheManager:
    config = EngineConfig(
        num_blocks=blocks,
        block_size=4,
        max_num_seqs=4,
        max_model_len=128,
        kv_cache_groups=groups,
        enable_prefix_caching=caching,
    )
    return KVCacheManager(config, secret=b"test")


def prefill(ours: KVCacheManager, request: Request, chunk: int) -> None:
    """Compute the whole prompt in chunks."""
    blocks, hit = ours.get_computed_blocks(request)
    new = min(chunk, request.num_tokens - hit)
    assert ours.allocate_slots(request, new, hit, blocks) is not None
    request.num_computed_tokens = hit + new
    while request.num_computed_tokens < request.num_tokens:
        new = min(chunk, request.num_tokens - request.num_computed_tokens)
        assert ours.allocate_slots(request, new) is not None
        request.num_computed_tokens += new
        ours.check()


@pytest.mark.parametrize(
    ("spec", "held"),
    [
        (SlidingWindowSpec(block_size=4, sliding_window=8), 4),
        (ChunkedLocalAttentionSpec(block_size=4, attention_chunk_size=16), 4),
        (MambaSpec(block_size=4, mamba_cache_mode="align"), 2),
    ],
)
def test_a_local_group_gives_back_what_it_no_longer_reads(spec: KVCacheSpec, held: int) -> None:
    """GIVEN 64 computed tokens WHEN a group reads few of them THEN it holds few blocks."""
    ours = manager(FULL, spec)
    request = Request("a", list(range(64)), 8)
    prefill(ours, request, 8)
    full, local = ours.get_block_ids("a")
    assert len(full) == len(local) == 16
    assert 0 not in full
    assert sum(block != 0 for block in local) <= held
    ours.free(request)
    ours.check()
    assert ours.usage == 0.0


def test_hits_need_every_group() -> None:
    """GIVEN full and sliding window WHEN a prompt is sent again THEN both serve the hit."""
    ours = manager(FULL, SlidingWindowSpec(block_size=4, sliding_window=8))
    first = Request("a", list(range(40)), 8)
    prefill(ours, first, 40)
    ours.free(first)
    again = Request("b", list(range(40)), 8)
    blocks, hit = ours.get_computed_blocks(again)
    assert hit == 36
    assert [block == 0 for block in blocks.blocks[1]] == [True] * 7 + [False] * 2


def test_cross_attention_is_allocated_once_by_encoder_tokens() -> None:
    """GIVEN 10 encoder tokens WHEN the decoder grows THEN cross attention keeps its 3 blocks."""
    ours = manager(FULL, CrossAttentionSpec(block_size=4), caching=False)
    request = Request("a", [1, 2, 3], 20, num_encoder_tokens=10)
    prefill(ours, request, 8)
    for token in range(12):
        request.append_output_token_ids(token)
        assert ours.allocate_slots(request, 1) is not None
        request.num_computed_tokens += 1
        ours.check()
    full, cross = ours.get_block_ids("a")
    assert (len(full), len(cross)) == (4, 3)
    ours.free(request)
    assert ours.usage == 0.0


def test_a_mamba_state_of_this_step_waits_for_the_next() -> None:
    """GIVEN a state made in this step WHEN another request hits it THEN it is refused once."""
    ours = manager(FULL, MambaSpec(block_size=4, mamba_cache_mode="align"))
    ours.new_step_starts()
    prefill(ours, Request("a", list(range(9)), 8), 8)
    twin = Request("b", list(range(9)), 8)
    blocks, hit = ours.get_computed_blocks(twin)
    assert hit == 8
    assert ours.allocate_slots(twin, 1, hit, blocks) is None
    ours.new_step_starts()
    assert ours.allocate_slots(twin, 1, hit, blocks) is not None
    ours.check()


def test_layouts_that_are_not_modelled_say_so() -> None:
    """GIVEN groups that vLLM or the twin refuses WHEN configured THEN one line names the remedy."""
    with pytest.raises(InputError, match="not prefix-cached"):
        manager(FULL, CrossAttentionSpec(block_size=4))
    with pytest.raises(InputError, match="not modelled"):
        manager(FULL, MambaSpec(block_size=8, mamba_cache_mode="align"))
    with pytest.raises(InputError, match="one block size"):
        manager(
            FullAttentionSpec(block_size=8),
            ChunkedLocalAttentionSpec(block_size=4, attention_chunk_size=16),
        )
