"""The pool against the naive model, operation by operation, every invariant after each."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.engine.naive_pool import NaivePool
from tests.engine.profiles import EXAMPLES, STEPS

from kvatlas.engine import BlockPool


class PoolMachine(RuleBasedStateMachine):
    """Random owners take, share, cache and free blocks of both pools."""

    @initialize(
        num_blocks=st.integers(2, 70),
        caching=st.booleans(),
        version=st.sampled_from(["0.32", "pre-42656"]),
        groups=st.integers(1, 3),
    )
    def start(self, num_blocks: int, caching: bool, version: str, groups: int) -> None:
        self.ours = BlockPool(num_blocks, caching, num_groups=groups, version=version)
        self.naive = NaivePool(num_blocks, caching=caching, prepend=version == "0.32")
        self.groups = groups
        self.held: list[list[int]] = []

    @rule(count=st.integers(0, 12))
    def allocate(self, count: int) -> None:
        ours, naive = self.ours.get_new_blocks(count), self.naive.get_new_blocks(count)
        assert ours == naive
        if ours:
            self.held.append(ours)

    @rule(data=st.data(), first_key=st.integers(0, 40), group=st.integers(0, 2))
    def cache(self, data: st.DataObject, first_key: int, group: int) -> None:
        group %= self.groups
        mine = [b for blocks in self.held for b in blocks if b not in self.naive.key_of]
        if mine:
            chosen = data.draw(st.lists(st.sampled_from(mine), unique=True, max_size=8))
            # Few keys over many blocks: duplicates are the rule here.
            keys = [(first_key + i) % 13 * 7 for i in range(len(chosen))]
            self.ours.cache_full_blocks(chosen, keys, group)
            self.naive.cache_full_blocks(chosen, keys, group)

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        cached = [blocks[0] for blocks in self.naive.cache.values()]
        if cached:
            hit = data.draw(st.lists(st.sampled_from(sorted(set(cached))), unique=True, max_size=6))
            self.ours.touch([*hit, 0])
            self.naive.touch([*hit, 0])
            if hit:
                self.held.append(hit)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.held:
            blocks = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            self.ours.free_blocks([0, *blocks[::-1]])
            self.naive.free_blocks([0, *blocks[::-1]])

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        if self.naive.key_of:
            block = data.draw(st.sampled_from(sorted(self.naive.key_of)))
            self.ours.evict_blocks([block])
            self.naive.evictions += self.naive.forget(block)

    @rule()
    def reset(self) -> None:
        assert self.ours.reset_prefix_cache() == self.naive.reset_prefix_cache()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ours"):
            return
        self.ours.check()
        assert self.ours.get_all_free_blocks() == self.naive.free
        assert self.ours.first_free_blocks(3) == self.naive.free[:3]
        assert self.ours.get_num_free_blocks() == len(self.naive.free)
        assert int(self.ours.state.info.evictions) == self.naive.evictions
        for key in range(0, 91, 7):
            for group in range(self.groups):
                found = self.ours.get_cached_block(key, [group])
                expected = self.naive.get_cached_block(key, group)
                assert (found and found[0]) == expected
        for block, owners in self.naive.owners.items():
            if block != 0:
                assert self.ours.block(block).ref_cnt == owners


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
