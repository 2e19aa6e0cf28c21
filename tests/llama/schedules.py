"""Random schedules over a paged Llama: who comes when, what happens to the blocks in between.

Owns: drawing a configuration and a course of operations, and checking every token as it is sampled.
Leaves to others: what is done to the bytes (`operations`), the right answers (`hf_reference`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from hf_reference import MAX_OUTPUT, Reference

from kvatlas.engine import EngineConfig, Request
from kvatlas.engine.kernels.state import NONE
from kvatlas.engine.versions import VLLM_VERSIONS
from kvatlas.llama import LlamaEngine, LlamaShape
from kvatlas.placement import PLACEMENTS
from kvatlas.storage import LAYOUTS, KVCacheMemoryPool
from kvatlas.tiers import SwapManager

Operation = Callable[["Schedule"], None]
MARGIN_OVER_ERROR = 4.0


def draw_config(rng: Random) -> EngineConfig:
    """Draw a pool that is often too small, and chunks that are often tiny."""
    block_size = rng.choice([1, 2, 4, 8, 16])
    longest = 80 + MAX_OUTPUT  # tokens of the longest request
    least = -(-longest // block_size) + 2
    changes: dict[str, Any] = rng.choice(
        [
            {},
            {},
            {"placement": rng.choice(list(PLACEMENTS))},
            {
                "lazy_free_steps": rng.randrange(3),
                "preallocate_blocks": rng.randrange(3),
                "admission_growth": rng.choice([0.0, 0.5]),
            },
        ]
    )  # one at a time: every combination is compiled apart (eviction policies: tests/defrag)
    return EngineConfig(
        num_blocks=rng.randrange(least, least + least // 2 + 2),
        block_size=block_size,
        max_num_seqs=rng.randrange(2, 9),
        max_num_batched_tokens=rng.choice([5, 16, 40, 200]),
        max_model_len=128,
        policy=rng.choice(["fcfs", "priority"]),
        watermark=rng.choice([0.0, 0.0, 0.05]),
        long_prefill_token_threshold=rng.choice([0, 0, 7]),
        scheduler_reserve_full_isl=rng.random() < 0.5,
        enable_prefix_caching=rng.random() < 0.9,
        async_scheduling=rng.random() < 0.25,
        version=rng.choice(VLLM_VERSIONS),
        forget_uncomputed=True,
        **changes,
    )


def draw_storage(rng: Random, shape: LlamaShape, config: EngineConfig) -> KVCacheMemoryPool:
    """Draw a backend and a layout; every number is NaN until somebody writes it."""
    storage = KVCacheMemoryPool(
        config.num_blocks,
        num_layers=shape.num_layers,
        block_size=config.block_size,
        kv_heads=shape.num_kv_heads,
        head_size=shape.head_size,
        layout=rng.choice(sorted(LAYOUTS)),
        backend=rng.choice(["numpy", "torch"]),
    )
    spoil_blocks(storage, list(range(config.num_blocks)))
    return storage


def draw_tier(rng: Random, storage: KVCacheMemoryPool) -> SwapManager | None:
    """Draw a tier below the pool, with or without a disk below it, or none."""
    if rng.random() < 0.5:
        return None
    return SwapManager(
        storage,
        host_bytes=rng.randrange(1, 60) * storage.bytes_per_block,
        policy=rng.choice(["lru", "lru", "fifo", "lfu"]),
        disk_bytes=rng.choice([0, 40]) * storage.bytes_per_block,
    )


def spoil_blocks(storage: KVCacheMemoryPool, blocks: list[int]) -> None:
    """Fill blocks with NaN: all bits set."""
    for layer in storage.layers:
        layer[blocks] = float("nan")


class Schedule:
    """One course: requests arrive, run, are preempted, aborted; blocks are handled in between.

    Attributes:
        widest_error: largest difference between a logit of ours and Hugging Face's.
        narrowest_margin: smallest top-1 minus top-2 of a token that was sampled.
        counts: what happened how often.
    """

    def __init__(
        self, model: Reference, config: EngineConfig, rng: Random, operations: Sequence[Operation]
    ) -> None:
        self.model, self.config, self.rng, self.operations = model, config, rng, operations
        self.storage = draw_storage(rng, model.shape, config)
        self.swap = draw_tier(rng, self.storage)
        self.engine = LlamaEngine(
            model.ours, self.storage, config, swap=self.swap, secret=b"s", sample=self._sample
        )
        self.live: dict[str, Request] = {}
        self.counts: Counter[str] = Counter()
        self.widest_error, self.narrowest_margin = 0.0, float("inf")
        self._added = 0

    def run(self, requests: int) -> None:
        """Add `requests` over time and step until all are done, with operations in between."""
        for _ in range(40 * requests * MAX_OUTPUT):
            if self._added < requests and self.rng.random() < 0.6:
                self._add()
            if self.live and self.rng.random() < 0.01:
                self._abort()
            if self.operations and self.rng.random() < 0.5:
                self.rng.choice(self.operations)(self)
            if self.engine.scheduler.has_requests():
                self._step()
            elif self._added == requests:
                break
        assert not self.live, "requests were lost or starved"
        assert self.counts["finished"] + self.counts["aborted"] == requests
        self.storage.check()
        if self.swap:
            self.swap.check()
            self.swap.close()

    def held_blocks(self) -> dict[str, list[int]]:
        """Return the block table of every live request."""
        tables = {name: self.engine.scheduler.get_block_ids(name)[0] for name in self.live}
        return {name: table for name, table in tables.items() if table}

    def cached_blocks(self) -> dict[int, list[int]]:
        """Return the blocks under each key, in no order."""
        cached: dict[int, list[int]] = {}
        keys = self.engine.scheduler._engine.pool.blocks["key"][:-1].tolist()
        for block, key in enumerate(keys):
            if key != NONE:
                cached.setdefault(key, []).append(block)
        return cached

    def meaningless_blocks(self) -> list[int]:
        """Return the blocks whose bytes nobody may read: neither held, cached nor in flight."""
        blocks = self.engine.scheduler._engine.pool.blocks[:-1]
        free = (blocks["ref_count"] == 0) & (blocks["key"] == NONE)
        free[0] = True  # the null block
        busy = self.engine.in_flight_blocks()
        return [block for block in free.nonzero()[0].tolist() if block not in busy]

    def _add(self) -> None:
        prompt, name = self.rng.choice(self.model.prompts), f"r{self._added}"
        stop = self.model.answer(prompt).tokens[self.rng.randrange(MAX_OUTPUT)]
        request = Request(
            name,
            prompt,
            max_tokens=self.rng.randrange(1, MAX_OUTPUT + 1),
            stop_token_ids=(stop,) if self.rng.random() < 0.2 else (),
            priority=self.rng.randrange(3),
            cache_salt=self.rng.choice(["", "", "", "tenant"]),
        )
        self._added += 1
        self.live[name] = request
        self.engine.add_request(request)

    def _abort(self) -> None:
        name = self.rng.choice(sorted(self.live))
        self.engine.abort(name)
        self._settle(self.live.pop(name), aborted=True)

    def _step(self) -> None:
        for request in self.engine.step():
            self._settle(self.live.pop(request.request_id), aborted=False)
        self.counts["steps"] += 1
        if self.rng.random() < 0.1:
            self.engine.scheduler.check()

    def _settle(self, request: Request, *, aborted: bool) -> None:
        """Check a request's whole output when it leaves."""
        prompt = request.all_token_ids[: request.num_prompt_tokens]
        right = list(self.model.answer(prompt).tokens[: request.max_tokens])
        stops = [at for at, token in enumerate(right) if token in request.stop_token_ids]
        right = right[: stops[0] + 1] if stops else right
        if aborted:
            right = right[: len(request.output_token_ids)]
        assert request.output_token_ids == right, request.request_id
        self.counts["aborted" if aborted else "finished"] += 1
        self.counts["preemptions"] += request.num_preemptions
        self.counts["tokens"] += len(right)
        self.counts["restored"] = self.engine.restored_tokens
        self.counts["hits"] = self.engine.scheduler.prefix_cache_stats["hits"]

    def _sample(self, requests: Sequence[Request], logits: torch.Tensor) -> list[int]:
        """Take the likeliest tokens, and see that they are the likeliest for good reason."""
        tokens: list[int] = logits.argmax(-1).tolist()
        for request, token, ours in zip(requests, tokens, logits, strict=True):
            answer = self.model.answer(request.all_token_ids[: request.num_prompt_tokens])
            at = len(request.output_token_ids)
            if at == MAX_OUTPUT or request.request_id not in self.live:
                continue  # async: a token behind the last one, which is dropped
            assert token == answer.tokens[at], f"{request.request_id}: output token {at}"
            error = (ours - answer.logits[at]).abs().max().item()
            assert answer.margins[at] > MARGIN_OVER_ERROR * error, "equal, but by luck"
            self.widest_error = max(self.widest_error, error)
            self.narrowest_margin = min(self.narrowest_margin, answer.margins[at])
        return tokens
