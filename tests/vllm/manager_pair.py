"""Our KVCacheManager beside the real one: every call goes to both, every answer is compared.

Owns: the pair and what is compared after each call (the free queue, ref counts, which blocks hold
cached content). Leaves to others: which calls are made (`test_manager_twin`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from real import real_manager
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request as RealRequest
from vllm.v1.request import RequestStatus

from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.engine.kernels.state import NONE


@dataclass
class Twins:
    """One request on both sides."""

    real: Any
    ours: Request

    def append(self, token: int) -> None:
        """Append a sampled token."""
        self.real.append_output_token_ids(token)
        self.ours.append_output_token_ids(token)

    @property
    def computed(self) -> int:
        """Tokens computed so far."""
        return self.ours.num_computed_tokens

    @computed.setter
    def computed(self, tokens: int) -> None:
        self.real.num_computed_tokens = self.ours.num_computed_tokens = tokens


class Pair:
    """Both managers under the same settings; a difference raises AssertionError."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.real = real_manager(config)
        self.ours = KVCacheManager(config, max_num_requests=64, secret=b"test")
        self.calls = 0
        sha256 = get_hash_fn_by_name("sha256")
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(config.resolved_hash_block_size, sha256)

    def request(
        self, name: str, tokens: list[int], salt: str = "", encoder_tokens: int = 0
    ) -> Twins:
        """Return a new request on both sides."""
        real = RealRequest(
            request_id=name,
            prompt_token_ids=tokens,
            sampling_params=SamplingParams(max_tokens=1 << 20, ignore_eos=True),
            pooling_params=None,
            arrival_time=0.0,
            cache_salt=salt or None,
            block_hasher=self._hasher,
        )
        ours = Request(name, tokens, 1 << 20, cache_salt=salt, num_encoder_tokens=encoder_tokens)
        return Twins(real, ours)

    def admit(self, twins: Twins, chunk: int, *, must_fit: bool, others_run: bool) -> bool:
        """Look the request up and allocate its first `chunk` tokens beyond the hit."""
        real_blocks, real_hit, twins.real.shared_prefix_boundary = self.real.get_computed_blocks(
            twins.real
        )
        our_blocks, our_hit = self.ours.get_computed_blocks(twins.ours)
        assert our_hit == real_hit
        assert _listed(our_blocks) == _listed(real_blocks)
        new_tokens = min(chunk, twins.ours.num_tokens - our_hit)
        real_new = self.real.allocate_slots(
            twins.real,
            new_tokens,
            num_new_computed_tokens=real_hit,
            new_computed_blocks=real_blocks,
            num_encoder_tokens=twins.ours.num_encoder_tokens,
            full_sequence_must_fit=must_fit,
            has_scheduled_reqs=others_run,
        )
        our_new = self.ours.allocate_slots(
            twins.ours,
            new_tokens,
            our_hit,
            our_blocks,
            full_sequence_must_fit=must_fit,
            has_scheduled_reqs=others_run,
        )
        if self._same(real_new, our_new):
            twins.real.status = RequestStatus.RUNNING
            twins.computed = our_hit + new_tokens
            return True
        return False

    def grow(self, twins: Twins, new_tokens: int) -> bool:
        """Allocate the next `new_tokens` tokens of a running request."""
        real_new = self.real.allocate_slots(twins.real, new_tokens)
        our_new = self.ours.allocate_slots(twins.ours, new_tokens)
        if self._same(real_new, our_new):
            twins.computed += new_tokens
            return True
        return False

    def cache(self, twins: Twins, num_tokens: int) -> None:
        """Cache the first `num_tokens` tokens' blocks."""
        self.real.cache_blocks(twins.real, num_tokens)
        self.ours.cache_blocks(twins.ours, num_tokens)
        self._check()

    def free(self, twins: Twins) -> None:
        """Take all blocks from a request, as at its end or a preemption."""
        self.real.free(twins.real)
        self.ours.free(twins.ours)
        twins.real.status = RequestStatus.PREEMPTED
        twins.real.num_preemptions += 1
        twins.ours.num_preemptions += 1
        twins.computed = 0
        self._check()

    def new_step(self) -> None:
        """Say that a step starts."""
        self.real.new_step_starts()
        self.ours.new_step_starts()

    def reset(self) -> bool:
        """Forget all cached content, if nothing is in use."""
        done = self.real.reset_prefix_cache()
        assert self.ours.reset_prefix_cache() == done
        self._check()
        return bool(done)

    def _same(self, real_new: Any, our_new: Any) -> bool:
        assert (our_new is None) == (real_new is None), f"vLLM: {real_new}, twin: {our_new}"
        if real_new is not None:
            assert _listed(our_new) == _listed(real_new)
        self._check()
        return our_new is not None

    def _check(self) -> None:
        self.calls += 1
        pool, state = self.real.block_pool, self.ours._engine.pool
        queue, block = [], int(state.blocks["next_free"][self.config.num_blocks])
        chain = state.blocks["next_free"].tolist()
        while block != self.config.num_blocks:
            queue.append(block)
            block = chain[block]
        assert queue == [b.block_id for b in pool.free_block_queue.get_all_free_blocks()]
        assert state.blocks["ref_count"].tolist()[1:-1] == [b.ref_cnt for b in pool.blocks[1:]]
        cached = [key != NONE for key in state.blocks["key"].tolist()[1:-1]]
        assert cached == [b.block_hash is not None for b in pool.blocks[1:]]
        assert self.ours.get_num_free_blocks() == pool.get_num_free_blocks()
        assert self.ours.usage == self.real.usage

    def same_tables(self, twins: Twins) -> None:
        """Compare the request's block tables."""
        name = twins.ours.request_id
        assert self.ours.get_block_ids(name) == self.real.get_block_ids(name)


def _listed(blocks: Any) -> tuple[list[int], ...]:
    listed: tuple[list[int], ...] = blocks.get_block_ids()
    return listed
