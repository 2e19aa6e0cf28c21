"""Other ids change no decision: an engine whose blocks are relabelled goes on as its twin does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles_defrag import EXAMPLES
from streams import small_workload

from kvatlas.engine import BlockPool, EngineConfig, FullAttentionSpec, Replay, SlidingWindowSpec
from kvatlas.engine.relabel import relabel_engine, relabel_pool
from kvatlas.engine.replay import free_queue
from kvatlas.errors import InputError
from kvatlas.eviction import POLICIES


def permutation(rng: np.random.Generator, num_blocks: int) -> np.ndarray[Any, Any]:
    """Return random new ids; the null block's is its own."""
    return np.append(0, 1 + rng.permutation(num_blocks - 1))


def small_config(
    blocks: int, policy: str, hybrid: bool, ahead: bool, **changes: Any
) -> EngineConfig:
    groups: tuple[FullAttentionSpec | SlidingWindowSpec, ...] = (FullAttentionSpec(block_size=4),)
    if hybrid:
        groups += (SlidingWindowSpec(block_size=4, sliding_window=7),)
    return EngineConfig(
        num_blocks=blocks * len(groups),
        block_size=4,
        kv_cache_groups=groups,
        max_num_seqs=5,
        max_num_batched_tokens=32,
        max_model_len=128,
        async_scheduling=ahead,
        eviction_policy=policy,
        **changes,
    )


@pytest.mark.variants
@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=max(4, EXAMPLES // 6), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(24, 90),
    steps=st.integers(1, 5),
    hybrid=st.booleans(),
    ahead=st.booleans(),
)
def test_decisions_stay(
    policy: str, seed: int, blocks: int, steps: int, hybrid: bool, ahead: bool
) -> None:
    """GIVEN a replay under pressure WHEN relabelled between steps THEN it decides as its twin."""
    decides_as_its_twin(small_config(blocks, policy, hybrid, ahead), seed, steps)


@pytest.mark.variants
@pytest.mark.parametrize(
    "changes",
    [
        {"placement": "sorted"},
        {"placement": "first-fit"},
        {"placement": "best-fit"},
        {"placement": "buddy"},
        {"lazy_free_steps": 7, "protect_waiting": 3, "preallocate_blocks": 2},
        {"host_blocks": 30, "host_write_back": "free", "swap": "always"},
        pytest.param({"host_blocks": 30, "host_policy": "lfu"}, marks=pytest.mark.rare),
    ],
    ids=["sorted", "first-fit", "best-fit", "buddy", "pressure", "tier", "tier-by-policy"],
)
@settings(max_examples=max(4, EXAMPLES // 6), deadline=None)
@given(seed=st.integers(0, 10_000), blocks=st.integers(24, 60), steps=st.integers(1, 5))
def test_decisions_stay_with_everything_on(
    changes: dict[str, Any], seed: int, blocks: int, steps: int
) -> None:
    """GIVEN placements, tiers, late frees WHEN relabelled THEN their books follow, too."""
    config = small_config(blocks, "lru", False, False, **changes)
    decides_as_its_twin(config, seed, steps, order=config.placement == "queue")


def decides_as_its_twin(config: EngineConfig, seed: int, steps: int, order: bool = True) -> None:
    """Relabel one of two equal replays after every slice; compare all that they decide.

    `order`: block ids play no part in which are handed out, so that names can be followed.
    """
    workload = small_workload(seed, rows=24)
    twin, ours = Replay(workload, config), Replay(workload, config)
    rng = np.random.default_rng(seed)
    names = np.arange(config.num_blocks)  # what the twin's blocks are called by us
    twins = twin.slices(max_steps=steps)
    for _ in ours.slices(max_steps=steps):
        next(twins)
        assert not order or np.array_equal(names[free_queue(twin.engine)], free_queue(ours.engine))
        new_id = permutation(rng, config.num_blocks)
        relabel_engine(ours.engine, new_id)
        names = new_id[names]
        ours.check()
    for _ in twins:
        raise AssertionError("the twin has more to do")
    if order:
        assert np.array_equal(names[free_queue(twin.engine)], free_queue(ours.engine))
    expected, result = twin.result(), ours.result()
    assert result.decisions == expected.decisions
    assert result.sums == expected.sums
    for name in ("first_scheduled_ms", "first_token_ms", "finished_ms"):
        assert np.array_equal(getattr(result, name), getattr(expected, name), equal_nan=True)


def test_duplicates_stay_in_order() -> None:
    """GIVEN blocks with the same key WHEN relabelled THEN the first inserted is still found."""
    pool = BlockPool(12)
    ids = pool.get_new_blocks(4)
    assert ids is not None
    for block in ids:
        pool.cache_full_blocks([block], [77])
    new_id = permutation(np.random.default_rng(1), 12)
    relabel_pool(pool.state, new_id)
    pool.check()
    for block in ids:
        assert pool.get_cached_block(77) == [int(new_id[block])]
        pool.evict_blocks([int(new_id[block])])
        pool.check()
    assert pool.get_cached_block(77) is None


@pytest.mark.parametrize(
    ("new_id", "what"),
    [
        ([0, 1, 2], "as many ids as blocks"),
        ([0, 1, 2, 2], "no permutation"),
        ([0, 1, 2, 4], "no permutation"),
        ([0, 1, -1, 2], "no permutation"),
        ([1, 0, 2, 3], "the null block stays"),
    ],
)
def test_what_is_no_relabelling(new_id: list[int], what: str) -> None:
    pool = BlockPool(4)
    with pytest.raises(InputError, match=what):
        relabel_pool(pool.state, np.array(new_id))
    pool.check()
