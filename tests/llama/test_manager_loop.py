"""An engine that schedules by itself over `KVCacheManager`: any subset, any chunk, any order."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed here")
pytest.importorskip("transformers", reason="the comparison needs transformers")

from hf_reference import MAX_OUTPUT, SHAPES, Reference, reference

from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.llama import PagedChunk
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import SwapManager

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]


class ManagerLoop:
    """Runs requests in steps of a scheduler that knows no rule but to use the manager's blocks."""

    def __init__(self, model: Reference, rng: Random) -> None:
        self.model, self.rng = model, rng
        block_size = rng.choice([2, 4, 8])
        self.manager = KVCacheManager(
            EngineConfig(
                num_blocks=140 // block_size, block_size=block_size, max_model_len=128,
                max_num_seqs=6,
            ),
            secret=b"m",
        )  # fmt: skip
        self.storage = KVCacheMemoryPool(
            140 // block_size, num_layers=model.shape.num_layers, block_size=block_size,
            kv_heads=model.shape.num_kv_heads, head_size=model.shape.head_size, layout="layer",
        )  # fmt: skip
        self.tier = SwapManager(self.storage, host_bytes=50 * self.storage.bytes_per_block)
        self.block_size = block_size
        self.running: list[Request] = []
        self.preempted = self.restored = self.hits = 0

    def step(self, waiting: list[Request]) -> None:
        """Admit or continue some requests, compute them in one pass, sample."""
        batch: list[tuple[Request, int]] = []
        if waiting and self.rng.random() < 0.6 and len(self.running) < 6:
            self._admit(waiting, batch)
        for request in self.rng.sample(self.running, self.rng.randrange(len(self.running) + 1)):
            left = request.num_tokens - request.num_computed_tokens
            tokens = self.rng.randrange(1, left + 1)
            if all(request is not other for other, _ in batch):
                if self.manager.allocate_slots(request, tokens) is not None:
                    batch.append((request, tokens))
                else:
                    self._preempt(waiting, {other.request_id for other, _ in batch})
                    break
        if batch:
            self._compute(batch)

    def _admit(self, waiting: list[Request], batch: list[tuple[Request, int]]) -> None:
        request = waiting[0]
        blocks, hit = self.manager.get_computed_blocks(request)
        keys = request.block_keys[
            hit // self.block_size : (request.num_tokens - 1) // self.block_size
        ]
        restored = self.tier.lookup(keys) * self.block_size
        tokens = restored + self.rng.randrange(1, request.num_tokens - hit - restored + 1)
        if self.manager.allocate_slots(request, tokens, hit, blocks) is None:
            return
        table = self.manager.get_block_ids(request.request_id)[0][hit // self.block_size :]
        count = restored // self.block_size
        if count:
            self.tier.swap_in(keys[:count], table[:count])
        request.num_computed_tokens = hit + restored
        self.restored += restored
        self.hits += hit
        self.running.append(waiting.pop(0))
        batch.append((request, tokens - restored))

    def _preempt(self, waiting: list[Request], busy: set[str]) -> None:
        """Swap out what one request has computed, and take its blocks."""
        victims = [request for request in self.running if request.request_id not in busy]
        if not victims:
            return
        victim = self.rng.choice(victims)
        full = victim.num_computed_tokens // self.block_size
        table = self.manager.get_block_ids(victim.request_id)[0]
        self.tier.swap_out(victim.block_keys[:full], table[:full])
        self.manager.free(victim)
        victim.num_computed_tokens = 0
        self.running.remove(victim)
        waiting.insert(0, victim)
        self.preempted += 1

    def _compute(self, batch: list[tuple[Request, int]]) -> None:
        chunks = []
        for request, tokens in batch:
            start = request.num_computed_tokens
            table = self.manager.get_block_ids(request.request_id)[0]
            chunks.append(PagedChunk(request.all_token_ids[start : start + tokens], start, table))
        logits = self.model.ours.forward(chunks, self.storage)
        for (request, tokens), token in zip(batch, logits.argmax(-1).tolist(), strict=True):
            request.num_computed_tokens += tokens
            if request.num_computed_tokens == request.num_tokens:
                request.append_output_token_ids(token)
            if len(request.output_token_ids) == request.max_tokens:
                self.manager.free(request)
                self.running.remove(request)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_tokens_are_right_under_any_scheduler(shape: str) -> None:
    # GIVEN requests and a scheduler that picks at random WHEN they are run to their ends
    model, preempted, restored, hits = reference(shape), 0, 0, 0
    for seed in range(10):
        rng = Random(seed)
        loop = ManagerLoop(model, rng)
        requests = [
            Request(f"r{i}", rng.choice(model.prompts), rng.randrange(1, MAX_OUTPUT + 1))
            for i in range(12)
        ]
        waiting = list(requests)
        for _ in range(5000):
            loop.step(waiting)
            if not (waiting or loop.running):
                break
        # THEN their tokens are Hugging Face's
        for request in requests:
            prompt = request.all_token_ids[: request.num_prompt_tokens]
            right = model.answer(prompt).tokens[: request.max_tokens]
            assert tuple(request.output_token_ids) == right
        loop.manager.check()
        preempted, restored, hits = (
            preempted + loop.preempted, restored + loop.restored, hits + loop.hits,
        )  # fmt: skip
    assert preempted > 10
    assert restored > 100
    assert hits > 100
