"""Policies in the engine: pinning, ref counts, duplicates, chunks and preemptions."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_workloads import SPAN, Prompt, examples, make_workload, prompts

from kvatlas.engine import (
    DriveConfig,
    EngineConfig,
    FullAttentionSpec,
    Replay,
    SlidingWindowSpec,
)
from kvatlas.engine.kernels.state import NONE
from kvatlas.errors import InputError
from kvatlas.events import Chunk, schema
from kvatlas.eviction import POLICIES, simulate
from kvatlas.eviction.build import make_eviction
from kvatlas.workload import Workload, generate

BY_LEAF = [name for name, one in POLICIES.items() if one.by_leaf]
NAMES = [name for name in POLICIES if name != "lru"]


def _with_policy_object(replay: Replay, name: str) -> Replay:
    """Let a replay evict by a policy's state even where the free queue's order would do."""
    pool = replay.engine.pool
    blocks = pool.blocks.shape[0] - 1
    full = tuple(isinstance(spec, FullAttentionSpec) for spec in replay.config.groups)
    eviction = make_eviction(
        POLICIES[name],
        num_items=blocks,
        capacity=blocks - 1,
        block_size=replay.config.resolved_hash_block_size,
        num_contents=replay.num_keys * len(full),
        linked=full,
    )
    replay.engine = replay.engine._replace(pool=pool._replace(eviction=eviction))
    return replay


_GROUPS = {
    "full": (FullAttentionSpec(block_size=16),),
    "hybrid": (
        FullAttentionSpec(block_size=16),
        SlidingWindowSpec(block_size=16, sliding_window=100),
    ),
}


@pytest.mark.variants
@pytest.mark.parametrize("groups", _GROUPS)
@pytest.mark.parametrize("changes", [{}, {"async_scheduling": True}, {"policy": "priority"}])
def test_lru_by_leaf_is_the_free_queue(groups: str, changes: dict[str, Any]) -> None:
    """GIVEN a tight pool WHEN LRU runs as a policy THEN every decision and the queue are vLLM's."""
    config = EngineConfig(
        num_blocks=900 * len(_GROUPS[groups]),
        kv_cache_groups=_GROUPS[groups],
        max_num_seqs=24,
        **changes,
    )
    workload = generate("conversation").head(150)
    expected = Replay(workload, config, checksum=True).run()
    replay = _with_policy_object(Replay(workload, config, checksum=True), "lru")
    result = replay.run()
    replay.check()
    assert result.decisions == expected.decisions
    assert result.sums["evictions"] == expected.sums["evictions"] > 1000


def _parents(workload: Workload, replay: Replay, block_size: int) -> dict[int, int]:
    """Return the key of the block before each key's, -1 for a first block."""
    parent: dict[int, int] = {}
    per_id = max(1, SPAN // block_size)
    for row in range(workload.num_requests):
        prompt = int(workload.prompt_tokens[row])
        ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
        unique = int(replay.engine.requests[row].unique_start)
        before = NONE
        for end in range(block_size, prompt + int(workload.output_tokens[row]) + 1, block_size):
            last = end - 1
            key = unique + end // block_size - prompt // block_size - 1
            if end <= prompt:
                key = ids[last // SPAN] * per_id + last % SPAN // block_size
            parent[key], before = before, key
    return parent


@pytest.mark.variants
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(30), deadline=None)
@given(
    drawn=prompts(longest=6),
    blocks=st.integers(16, 40),
    block_size=st.sampled_from([2, SPAN]),
    outputs=st.integers(1, 9),
    seqs=st.integers(1, 6),
    batch=st.integers(6, 40),
    ahead=st.booleans(),
)
def test_keeps_the_engines_promises(
    name: str,
    drawn: list[Prompt],
    blocks: int,
    block_size: int,
    outputs: int,
    seqs: int,
    batch: int,
    ahead: bool,
) -> None:
    """GIVEN a tight pool WHEN requests share, queue and are preempted THEN all books stay right.

    `check` holds ref counts against block tables: a block taken from a running request would show.
    """
    workload = make_workload(drawn, outputs=[1 + (i * 3) % outputs for i in range(len(drawn))])
    config = EngineConfig(
        num_blocks=blocks,
        block_size=block_size,
        max_num_seqs=seqs,
        max_num_batched_tokens=batch,
        async_scheduling=ahead,
        eviction_policy=name,
    )
    replay = Replay(workload, config, DriveConfig(queue_depth=4))
    parent = _parents(workload, replay, block_size)
    for _ in replay.slices(max_steps=3):
        replay.check()
        keys = replay.engine.pool.blocks["key"]
        cached = set(keys[keys != NONE].tolist())
        if POLICIES[name].by_leaf:
            assert all(parent[key] in cached for key in cached if parent[key] != NONE)
    replay.check()
    result = replay.result()
    served = result.decisions["finished"]
    assert served == workload.num_requests - len(result.rejected)


@pytest.mark.variants
@pytest.mark.parametrize("name", BY_LEAF)
@settings(max_examples=examples(40), deadline=None)
@given(drawn=prompts(longest=6), blocks=st.integers(7, 30), block_size=st.sampled_from([2, SPAN]))
def test_one_request_at_a_time_is_the_prefix_only_model(
    name: str, drawn: list[Prompt], blocks: int, block_size: int
) -> None:
    """GIVEN nobody runs beside a request WHEN room is made before THEN both paths agree exactly.

    Every prompt ends in a partial block, so one block is never cached, and answers fill none.
    """
    drawn = [(path, 1) for path, _ in drawn]
    blocks *= SPAN // block_size
    workload = make_workload(drawn)
    config = EngineConfig(
        num_blocks=blocks + 2, block_size=block_size, max_num_seqs=1, eviction_policy=name
    )
    replay = Replay(workload, config)
    decisions = replay.run().decisions
    alone = simulate(workload, name, blocks, block_size=block_size, room="before")
    assert decisions["finished"] == len(drawn)
    assert decisions["prefix_hits"] == alone.hit_tokens
    # Evicted so far, or cached still: as much in both.
    assert replay.engine.pool.info.evictions == alone.evictions


@pytest.mark.variants
@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_is_what_happened(name: str) -> None:
    """GIVEN a policy WHEN somebody listens THEN nothing changes and every eviction is told."""
    workload = generate("conversation").head(150)
    config = EngineConfig(num_blocks=1200, max_num_seqs=24, eviction_policy=name)
    silent = Replay(workload, config, checksum=True).run()
    evicted, reused = 0, 0
    cached: set[int] = set()

    def hear(chunk: Chunk) -> None:
        nonlocal evicted, reused
        for row in chunk.rows:
            count, key, stride = int(row["count"]), int(row["key"]), int(row["key_stride"])
            keys = [key + i * stride for i in range(count)]
            if row["event"] == schema.CACHED:
                reused += len(cached.intersection(keys))
                cached.update(keys)
            elif row["event"] == schema.EVICTED:
                assert row["cause"] == schema.BY_ALLOCATION
                evicted += count

    heard = Replay(workload, config, checksum=True, on_events=hear).run()
    assert heard.decisions == silent.decisions
    assert heard.sums["evictions"] == silent.sums["evictions"] == evicted > 1000


@pytest.mark.variants
@pytest.mark.parametrize("groups", ["hybrid"])
@pytest.mark.parametrize("name", NAMES)
def test_several_groups_share_a_policy(name: str, groups: str) -> None:
    config = EngineConfig(
        num_blocks=1800, kv_cache_groups=_GROUPS[groups], max_num_seqs=24, eviction_policy=name
    )
    replay = Replay(generate("conversation").head(120), config)
    for _ in replay.slices(max_steps=400):
        replay.check()
    replay.check()
    assert replay.result().decisions["finished"] == 120


def test_without_a_policy_nothing_is_kept() -> None:
    workload = generate("conversation").head(20)
    assert Replay(workload, EngineConfig(num_blocks=900)).engine.pool.eviction is None
    config = EngineConfig(num_blocks=900, eviction_policy="lfu", enable_prefix_caching=False)
    assert Replay(workload, config).engine.pool.eviction is None


def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(InputError, match="one of lru, fifo, lfu") as refused:
        EngineConfig(num_blocks=900, eviction_policy="mru")
    assert refused.value.field == "eviction_policy"
    assert "\n" not in str(refused.value)


@pytest.mark.variants
def test_shared_prefix_outlives_what_was_used_once() -> None:
    """GIVEN a system prompt and a stream of others WHEN LFU evicts THEN it stays, under LRU not."""
    system = ((0, 0, 0, 0), 1)
    others = [((symbol, symbol, symbol, symbol, symbol), 1) for symbol in range(1, 40)]
    drawn = [system, system, *others, system]
    hits = {}
    for name in ("lru", "lfu"):
        config = EngineConfig(num_blocks=14, block_size=SPAN, max_num_seqs=1, eviction_policy=name)
        hits[name] = int(
            cast(int, Replay(make_workload(drawn), config).run().decisions["prefix_hits"])
        )
    assert (hits["lru"], hits["lfu"]) == (3 * SPAN, 6 * SPAN)
    assert np.isfinite(list(hits.values())).all()


@pytest.mark.variants
def test_conversations_are_followed_in_the_engine() -> None:
    """GIVEN many conversations WHEN session-aware learns THEN it learns the same in both paths."""
    rng = random.Random(5)
    turns = [0] * 60
    drawn: list[Prompt] = []
    for _ in range(700):
        # Low numbers go on and on, high ones hardly ever come back.
        speaker = min(int(rng.expovariate(0.08)), 59)
        turns[speaker] += rng.randint(1, 2)
        drawn.append(((speaker, *range(turns[speaker])), 1))
    workload = make_workload(drawn)
    for blocks in (300, 700, 1500):
        config = EngineConfig(
            num_blocks=blocks + 2, block_size=2, max_num_seqs=1, eviction_policy="session-aware"
        )
        replay = Replay(workload, config)
        hits = replay.run().decisions["prefix_hits"]
        alone = simulate(workload, "session-aware", blocks, block_size=2, room="before")
        assert hits == alone.hit_tokens
        assert replay.engine.pool.info.evictions == alone.evictions
        lru = simulate(workload, "lru", blocks, block_size=2, room="before")
        assert hits != lru.hit_tokens
