"""Our KVCacheManager and BlockPool against vLLM's, call by call.

A request's calls come in any order that an engine could make them: chunks of any size, decoding,
caching late (as async scheduling does), preemption, resets. After every call the free queue, the
ref counts and the cached blocks are the same on both sides.
"""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_manager", reason="the real vLLM is not installed here")

from groups import FAMILIES, has_sparse
from manager_pair import Pair, Twins

from kvatlas.engine import CrossAttentionSpec, EngineConfig, FullAttentionSpec

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SEEDS, CALLS = 6, 250


class Driver:
    """Draws calls for one pair of managers."""

    def __init__(self, rng: Random, config: EngineConfig, encoder_tokens: int = 0) -> None:
        self.rng, self.pair, self.encoder_tokens = rng, Pair(config), encoder_tokens
        self.running: list[Twins] = []
        self.waiting: list[Twins] = []
        self.count = 0
        self.unit = config.scheduler_block_size if config.enable_prefix_caching else 8
        self.documents = [[rng.randrange(50) for _ in range(self.unit * 12)] for _ in range(3)]
        aligned = any(getattr(spec, "mamba_cache_mode", "") == "align" for spec in config.groups)
        self.chunk_unit = self.unit if aligned else 1

    def call(self) -> None:
        """Make one call, chosen at random among those that make sense now."""
        if self.rng.random() < 0.3:
            self.pair.new_step()
        options = [self._admit, self._admit]
        if self.running:
            options += [self._grow] * 12 + [self._cache, self._finish, self._preempt]
        else:
            options += [self._reset]
        self.rng.choice(options)()
        for twins in self.running[-1:]:
            self.pair.same_tables(twins)

    def _admit(self) -> None:
        rng = self.rng
        if self.waiting and rng.random() < 0.5:
            twins = self.waiting.pop()
        else:
            length = rng.randrange(1, self.unit * 12)
            length = -(-length // self.unit) * self.unit if rng.random() < 0.4 else length
            length = min(length, self.pair.config.max_model_len - 2)
            own = rng.randrange(0, length + 1)
            tokens = rng.choice(self.documents)[: length - own]
            tokens += [rng.randrange(50) for _ in range(length - len(tokens))]
            self.count += 1
            salt = rng.choice(("", "", "", "tenant"))
            twins = self.pair.request(str(self.count), tokens, salt, self.encoder_tokens)
        admitted = len(self.running) < 30 and self.pair.admit(
            twins,
            self._chunk(),
            must_fit=rng.random() < 0.5,
            others_run=bool(self.running) and rng.random() < 0.8,
        )
        (self.running if admitted else self.waiting).append(twins)
        if len(self.waiting) > 20:
            self.pair.free(self.waiting.pop(0))

    def _grow(self) -> None:
        twins = self.rng.choice(self.running)
        left = twins.ours.num_tokens - twins.computed
        if twins.ours.num_tokens + 1 >= self.pair.config.max_model_len:
            self.running.remove(twins)
            self.pair.free(twins)
            return
        if left == 0:
            twins.append(self.rng.randrange(50))
            left = 1
        if not self.pair.grow(twins, min(left, self._chunk())):
            self._preempt()

    def _cache(self) -> None:
        twins = self.rng.choice(self.running)
        self.pair.cache(twins, self.rng.choice((twins.computed, max(0, twins.computed - 1))))

    def _reset(self) -> None:
        assert self.pair.reset()

    def _finish(self) -> None:
        self.pair.free(self.running.pop(self.rng.randrange(len(self.running))))

    def _preempt(self) -> None:
        twins = self.running.pop(self.rng.randrange(len(self.running)))
        self.pair.free(twins)
        self.waiting.append(twins)

    def _chunk(self) -> int:
        """Any number of tokens; whole blocks where Mamba states are kept at block ends."""
        if self.chunk_unit > 1:
            return self.chunk_unit * self.rng.randrange(1, 5)
        return self.rng.choice((1, 2, self.unit, self.rng.randrange(1, 40), 1000))


def drive(rng: Random, config: EngineConfig, encoder_tokens: int = 0) -> None:
    """Make random calls on both managers."""
    driver = Driver(rng, config, encoder_tokens)
    for _ in range(CALLS):
        driver.call()
    driver.pair.ours.check()
    assert driver.pair.calls > CALLS // 2


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_call_answers_alike(family: str, seed: int) -> None:
    rng = Random(f"manager/{family}/{seed}")
    specs, caching = FAMILIES[family](rng, rng.choice((1, 2, 4, 4, 8)))
    unit = max(spec.block_size for spec in specs) if caching else 8
    retention: int | None = 0
    if has_sparse(specs):
        retention = rng.choice((0, 0, None))
    config = EngineConfig(
        num_blocks=rng.choice((15, 30, 60, 120)) * len(specs),
        kv_cache_groups=specs,
        enable_prefix_caching=caching and rng.random() > 0.1,
        max_num_seqs=40,
        max_num_batched_tokens=rng.choice((16, 64, 8192)),
        max_model_len=rng.choice((unit * 14, 4096)),
        watermark=rng.choice((0.0, 0.1)),
        prefix_cache_retention_interval=retention,
    )
    drive(rng, config)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_cross_attention_answers_alike(seed: int) -> None:
    rng = Random(f"cross/{seed}")
    config = EngineConfig(
        num_blocks=80,
        kv_cache_groups=(FullAttentionSpec(block_size=4), CrossAttentionSpec(block_size=8)),
        enable_prefix_caching=False,
        max_num_seqs=40,
        max_model_len=4096,
    )
    drive(rng, config, encoder_tokens=rng.choice((1, 8, 37)))
