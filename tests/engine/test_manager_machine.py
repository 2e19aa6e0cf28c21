"""`KVCacheManager` against the naive model: hits, block ids, refusals, free order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.engine.naive_pool import NaiveManager
from tests.engine.profiles import EXAMPLES, STEPS

from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.engine.replay import free_queue


class ManagerMachine(RuleBasedStateMachine):
    """Requests with shared prefixes are admitted in chunks, decode, and leave."""

    @initialize(
        num_blocks=st.integers(4, 40),
        block_size=st.sampled_from([1, 2, 4]),
        watermark=st.sampled_from([0.0, 0.1, 0.3]),
    )
    def start(self, num_blocks: int, block_size: int, watermark: float) -> None:
        config = EngineConfig(
            num_blocks=num_blocks,
            block_size=block_size,
            watermark=watermark,
            max_num_seqs=16,
            max_model_len=128,
        )
        self.ours = KVCacheManager(config, secret=b"test")
        self.naive = NaiveManager(num_blocks, block_size, int(watermark * num_blocks))
        self.requests: dict[str, Request] = {}
        self.count = 0

    @rule(
        shared=st.integers(0, 24),
        family=st.integers(0, 2),
        own=st.lists(st.integers(0, 2), min_size=1, max_size=8),
        chunk=st.integers(1, 40),
        must_fit=st.booleans(),
    )
    def admit(self, shared: int, family: int, own: list[int], chunk: int, must_fit: bool) -> None:
        if len(self.requests) == 16:
            return
        prompt = [family * 100 + i for i in range(shared)] + own
        name = f"r{self.count}"
        self.count += 1
        request = Request(name, prompt, 50)
        blocks, hit = self.ours.get_computed_blocks(request)
        hits = self.naive.lookup(prompt)
        assert list(blocks.blocks[0]) == hits
        assert hit == len(hits) * self.naive.block_size
        new = min(chunk, len(prompt) - hit)
        busy = bool(self.requests)
        ours = self.ours.allocate_slots(
            request, new, hit, blocks, full_sequence_must_fit=must_fit, has_scheduled_reqs=busy
        )
        naive = self.naive.allocate(name, prompt, 0, new, hits, must_fit=must_fit, watermark=busy)
        assert (None if ours is None else list(ours.blocks[0])) == naive
        if ours is None:
            self.ours.free(request)
            self.naive.free(name)
        else:
            request.num_computed_tokens = hit + new
            self.requests[name] = request

    @rule(data=st.data(), token=st.integers(0, 2), chunk=st.integers(1, 40))
    def go_on(self, data: st.DataObject, token: int, chunk: int) -> None:
        if not self.requests:
            return
        request = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        computed = request.num_computed_tokens
        if computed == request.num_tokens:
            if request.num_tokens >= 100:
                return
            request.append_output_token_ids(token)
        new = min(chunk, request.num_tokens - computed)
        ours = self.ours.allocate_slots(request, new)
        naive = self.naive.allocate(request.request_id, request.all_token_ids, computed, new, [])
        assert (None if ours is None else list(ours.blocks[0])) == naive
        if ours is not None:
            request.num_computed_tokens = computed + new

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.requests:
            name = data.draw(st.sampled_from(sorted(self.requests)))
            self.ours.free(self.requests.pop(name))
            self.naive.free(name)

    @rule()
    def reset(self) -> None:
        assert self.ours.reset_prefix_cache() == self.naive.pool.reset_prefix_cache()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "ours"):
            return
        self.ours.check()
        assert free_queue(self.ours._engine).tolist() == self.naive.pool.free
        for name in self.requests:
            assert self.ours.get_block_ids(name)[0] == self.naive.tables[name]


TestManager = ManagerMachine.TestCase
TestManager.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
