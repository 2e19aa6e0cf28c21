"""Every placement in the pool against the naive one, operation by operation, and long runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.engine.profiles import EXAMPLES, STEPS
from tests.placement.churn import churn
from tests.placement.naive_placed_pool import NaivePlacedPool

from kvatlas.engine import BlockPool, EngineConfig
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.placement import PLACEMENTS, placement_policy

CALLS = 1_000_000 if COMPILED else 4_000


class PlacedPoolMachine(RuleBasedStateMachine):
    """Random owners take, share, cache and free blocks of both pools."""

    @initialize(
        name=st.sampled_from(sorted(PLACEMENTS)),
        num_blocks=st.one_of(st.integers(2, 70), st.sampled_from([128, 130, 600])),
        caching=st.booleans(),
    )
    def start(self, name: str, num_blocks: int, caching: bool) -> None:
        self.ours = BlockPool(num_blocks, caching, placement=name)
        self.naive = NaivePlacedPool(num_blocks, name, caching=caching)
        self.held: list[list[int]] = []

    @rule(count=st.one_of(st.integers(0, 3), st.integers(4, 30)))
    def allocate(self, count: int) -> None:
        ours, naive = self.ours.get_new_blocks(count), self.naive.get_new_blocks(count)
        assert ours == naive
        if ours:
            self.held.append(ours)

    @rule(data=st.data(), first_key=st.integers(0, 40))
    def cache(self, data: st.DataObject, first_key: int) -> None:
        mine = [b for blocks in self.held for b in blocks if b not in self.naive.key_of]
        if mine:
            chosen = data.draw(st.lists(st.sampled_from(mine), unique=True, max_size=20))
            keys = [(first_key + i) % 31 * 7 for i in range(len(chosen))]
            self.ours.cache_full_blocks(chosen, keys)
            self.naive.cache_full_blocks(chosen, keys, 0)

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        cached = [blocks[0] for blocks in self.naive.cache.values()]
        if cached:
            hit = data.draw(st.lists(st.sampled_from(sorted(set(cached))), unique=True, max_size=6))
            self.ours.touch([*hit, 0])
            self.naive.touch([*hit, 0])
            if hit:
                self.held.append(hit)

    @rule(data=st.data(), backwards=st.booleans())
    def give_back(self, data: st.DataObject, backwards: bool) -> None:
        if self.held:
            blocks = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            blocks = [0, *(blocks[::-1] if backwards else blocks)]
            self.ours.free_blocks(blocks)
            self.naive.free_blocks(blocks)

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        if self.naive.key_of:
            block = data.draw(st.sampled_from(sorted(self.naive.key_of)))
            self.ours.evict_blocks([block])
            self.naive.evict(block)

    @rule()
    def reset(self) -> None:
        assert self.ours.reset_prefix_cache() == self.naive.reset_prefix_cache()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ours"):
            return
        self.ours.check()
        assert self.ours.get_all_free_blocks() == self.naive.free
        assert int(self.ours.state.info.evictions) == self.naive.evictions
        ref_counts = self.ours.state.blocks["ref_count"].tolist()
        for block, owners in self.naive.owners.items():
            assert block == 0 or ref_counts[block] == owners


TestPlacedPool = PlacedPoolMachine.TestCase
TestPlacedPool.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_a_million_calls_keep_the_books(name: str, caching: bool) -> None:
    """GIVEN a crowded pool WHEN blocks come, are shared and go a million times THEN all is right.

    Half a million calls with caching, and as many without.
    """
    blocks, owners = 3_000, 120
    pool = BlockPool(blocks, caching, placement=name)
    tables = np.zeros((owners, 60), np.int32)
    lengths, dice = np.zeros(owners, np.int64), np.array([4711, 0])
    moved = 0
    for _ in range(20):
        moved += churn(pool.state, tables, lengths, dice, CALLS // 40)
        pool.check()
        owned = np.bincount(
            np.concatenate([table[:n] for table, n in zip(tables, lengths, strict=True)]),
            minlength=blocks,
        )
        assert (pool.state.blocks["ref_count"][:blocks] == owned).all()
    assert moved > CALLS
    if caching and COMPILED:
        assert int(pool.state.info.evictions) > CALLS // 4


def test_names_and_numbers() -> None:
    """GIVEN names WHEN looked up THEN a number is the knob, and errors say what helps."""
    assert placement_policy("window").knobs["window_ratio"] == 1.25
    wider = placement_policy("window:2")
    assert (wider.name, wider.knobs["window_ratio"]) == ("window:2", 2.0)
    assert EngineConfig(num_blocks=9, placement="window:1.5").placement == "window:1.5"
    for name in ("sideways", "window:0.5", "window:many", "window:nan", "sorted:2", "window:inf"):
        with pytest.raises(InputError) as refused:
            EngineConfig(num_blocks=9, placement=name)
        assert refused.value.field == "placement" and refused.value.remedy
    with pytest.raises(InputError, match="LRU must evict") as clash:
        BlockPool(9, placement="window", eviction_policy="lfu")
    assert "queue or sorted" in str(clash.value)
    assert BlockPool(9, placement="sorted", eviction_policy="lfu").get_new_blocks(3) == [1, 2, 3]
