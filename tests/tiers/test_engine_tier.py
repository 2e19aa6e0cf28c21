"""A host tier below the engine: held to a naive model, and to what it must not change."""

from __future__ import annotations

import os
import random
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from naive_tier import MODELLED, NaiveTier
from tiny import SPAN, Path, random_paths, workload_of

from kvatlas.engine import DriveConfig, EngineConfig, KVCacheManager, Replay, SlidingWindowSpec
from kvatlas.engine.kernels.state import NONE
from kvatlas.errors import InputError, InvariantError
from kvatlas.events import Chunk, schema
from kvatlas.jit import COMPILED
from kvatlas.measure import Conditions, measure_replay
from kvatlas.tiers._state_kernel import IN
from kvatlas.workload import generate, load

_SLOPE = SPAN / 30_630.0
_GIVEN = os.environ.get("KVATLAS_SHARED")
_SHARED = FilePath(_GIVEN) if _GIVEN else FilePath(__file__).resolve().parents[2].parent / "shared"
_TRACE = _SHARED / "traces" / "mooncake_conversation.jsonl"


class NaiveDevice:
    """One request at a time on a pool in vLLM's order, over a naive tier."""

    def __init__(self, blocks: int, tier: NaiveTier) -> None:
        self.free: list[Path | None] = [None] * (blocks - 1)  # what each free block holds
        self.tier, self.keys = tier, dict[Path, int]()
        self.written = self.restored = self.kept = 0

    def key(self, content: Path) -> int:
        return self.keys.setdefault(content, len(self.keys))

    def save(self, content: Path) -> None:
        key = self.key(content)
        if key in self.tier.held:
            self.kept += 1
            if self.tier.held[key].pins == 0:
                self.tier.held[key].pins += 1
                self.tier.release(key)
            return
        above = self.key(content[:-1]) if len(content) > 1 else None
        if self.tier.insert(key, above, len(content) - 1):
            self.tier.release(key)
            self.written += 1

    def serve(self, path: Path, write_back: str) -> tuple[int, int]:
        """Return the blocks hit on the device and those that the tier added."""
        full = [path[:end] for end in range(1, len(path))]  # the last block is never full
        on_device = 0
        while on_device < len(full) and full[on_device] in self.free:
            on_device += 1
        found = []
        for content in full[on_device:]:
            if self.key(content) not in self.tier.held:
                break
            found.append(self.key(content))
        for key in found:
            self.tier.uses[key] += 1
            self.tier.held[key].pins += 1
        for content in full[:on_device]:
            self.free.remove(content)
        for _ in range(len(path) - on_device):
            lost = self.free.pop(0)
            if lost is not None and write_back == "evict":
                self.save(lost)
        for key in reversed(found):
            self.tier.release(key)
        self.restored += len(found)
        if write_back == "free":
            for content in reversed(full):
                self.save(content)
        self.free.insert(0, None)
        self.free += full[::-1]
        return on_device, len(found)


@pytest.mark.parametrize(
    "policy",
    [p if p == "lru" else pytest.param(p, marks=pytest.mark.rare) for p in MODELLED],
)
@pytest.mark.parametrize("write_back", ["evict", "free"])
@pytest.mark.variants
def test_one_request_at_a_time(policy: str, write_back: Any) -> None:
    """GIVEN prompts that share WHEN served alone THEN hits, moves and contents are the model's."""
    for seed in range(12):
        rng = random.Random(seed)
        paths = random_paths(rng, 80)
        blocks, slots = rng.randint(8, 14), rng.choice([1, 4, 9, 30, 400])
        config = EngineConfig(
            num_blocks=blocks,
            block_size=SPAN,
            max_num_seqs=1,
            host_blocks=slots,
            host_policy=policy,
            host_write_back=write_back,
        )
        replay = Replay(workload_of(paths), config)
        result = replay.run()
        replay.check()
        naive = NaiveDevice(blocks, NaiveTier(slots, policy, slope=_SLOPE))
        hits = [naive.serve(path, write_back) for path in paths]
        assert result.decisions["prefix_hits"] == SPAN * sum(map(sum, hits))
        assert result.decisions["restored_tokens"] == SPAN * sum(host for _, host in hits)
        sums, tier = result.sums, naive.tier
        assert (sums["host_written"], sums["host_restored"]) == (naive.written, naive.restored)
        assert (sums["host_kept"], sums["host_evictions"]) == (naive.kept, tier.evictions)
        assert sums["host_used"] == len(tier.held)


def _tight(**changes: Any) -> EngineConfig:
    return EngineConfig(**{"num_blocks": 700, "max_num_seqs": 24, "host_blocks": 400, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host_blocks": 3},
        {"async_scheduling": True},
        {"policy": "priority"},
        {"host_write_back": "free"},
        {"host_write_back": "preempt", "swap": "always"},
        pytest.param({"eviction_policy": "lfu"}, marks=pytest.mark.rare),
        pytest.param({"host_policy": "one-hit-first"}, marks=pytest.mark.rare),
        {"max_num_batched_tokens": 512},
    ],
    ids=str,
)
@pytest.mark.variants
def test_what_comes_back_is_what_was_written(changes: dict[str, Any]) -> None:
    """GIVEN chunks and preemptions WHEN every move is carried out THEN contents are right.

    The moves that the tier lists are done on a model of both memories, step by step.
    """
    replay = Replay(generate("conversation").head(120), _tight(**changes))
    pool = replay.engine.pool
    assert pool.tier is not None
    tier = pool.tier._replace(moves=np.zeros((50_000, 3), np.int32))
    replay.engine = replay.engine._replace(pool=pool._replace(tier=tier))
    device: dict[int, int] = {}
    host: dict[int, int] = {}
    brought = 0

    def key_in(slot: int) -> int:
        return int(tier.store.keys[slot])

    for _ in replay.slices(max_steps=1):
        keys = replay.engine.pool.blocks["key"]
        fresh = set()
        for direction, block, slot in tier.moves[: int(tier.info.moves)].tolist():
            if direction == IN:
                device[block] = host[slot]
                fresh.add(block)
                brought += 1
            elif changes.get("host_write_back") == "free" and device.get(block) != key_in(slot):
                host[slot] = int(keys[block])  # written at the end of the step that computed it
            else:
                host[slot] = device[block]
        for block in fresh:
            assert device[block] == keys[block]
        for block in np.flatnonzero(keys != NONE).tolist():
            device[block] = int(keys[block])
        tier.info.moves = 0
        for slot, key in enumerate(tier.store.keys[: int(tier.store.info.fresh)].tolist()):
            assert host[slot] == key
    replay.check()
    result = replay.result()
    assert result.decisions["finished"] == 120
    assert int(result.decisions["preemptions"]) > 0
    assert brought == result.sums["host_restored"] > 0


@pytest.mark.variants
def test_off_is_off_and_nothing_gained_is_nothing_changed() -> None:
    """GIVEN a tier that never brings back WHEN run THEN every decision is that of no tier."""
    workload = generate("conversation").head(150)
    plain = Replay(workload, _tight(host_blocks=0), checksum=True)
    assert plain.engine.pool.tier is None
    expected = plain.run().decisions
    slow = {"host_bandwidth": 1e6, "host_block_bytes": 2_000_000}
    for changes in (
        {"host_write_back": "preempt", "swap": "never"},
        {"host_write_back": "preempt", **slow},
        slow,
    ):
        replay = Replay(workload, _tight(**changes), checksum=True)
        result = replay.run()
        told = {name: value for name, value in result.decisions.items() if "restored" not in name}
        assert told == expected
        assert result.sums["host_restored"] == 0
        if changes.get("host_write_back") == "preempt":
            assert result.sums["host_written"] == 0
            assert result.sums["host_recomputed"] == expected["preemptions"]


@pytest.mark.variants
def test_swap_brings_a_preempted_request_back() -> None:
    """GIVEN swap at preemptions THEN less is computed again than without, and nothing else is."""
    workload = generate("conversation").head(150)
    without = Replay(workload, _tight(host_blocks=0)).run()
    config = _tight(host_write_back="preempt", swap="always")
    swapped = Replay(workload, config).run()
    assert swapped.sums["host_swapped"] == int(swapped.decisions["preemptions"]) > 0
    assert swapped.sums["host_written"] == swapped.sums["host_saved_at_preemption"] > 0
    assert swapped.sums["recomputed_tokens"] < without.sums["recomputed_tokens"]


@pytest.mark.variants
def test_moving_takes_its_time() -> None:
    """GIVEN bytes and a bandwidth THEN steps last longer by just that, gliding included."""
    workload = generate("conversation").head(150)
    config = _tight(host_bandwidth=25e9, host_block_bytes=2_000_000)
    assert config.host_ms_per_block == pytest.approx(0.08)
    for more in ({}, {"async_scheduling": True}):
        result = Replay(workload, config.with_(**more)).run()
        plain_ms = 8.0 * int(result.decisions["steps"])
        plain_ms += 12.0 * int(result.decisions["scheduled_tokens"]) / 1e3
        moving_ms = result.sums["host_moving_ms"]
        assert result.sums["busy_ms"] == pytest.approx(plain_ms + moving_ms)
        moved = result.sums["host_written"] + result.sums["host_restored"]
        # Both ways at once: no more than their sum, no less than the larger.
        assert moving_ms <= 0.08 * moved + 1e-6
        assert moving_ms >= 0.08 * max(result.sums["host_written"], result.sums["host_restored"])


@pytest.mark.variants
def test_what_is_recorded_is_what_happened() -> None:
    """GIVEN a tier WHEN somebody listens THEN nothing changes and every move is told."""
    workload = generate("conversation").head(150)
    silent = Replay(workload, _tight(), checksum=True).run()
    moved = {schema.SWAPPED_IN: 0, schema.SWAPPED_OUT: 0}

    def hear(chunk: Chunk) -> None:
        for row in chunk.rows:
            if row["event"] in moved:
                assert row["cause"] == schema.BY_HOST
                blocks = chunk.ids[row["blocks_at"] : row["blocks_at"] + row["count"]]
                assert len(set(blocks.tolist())) == row["count"] > 0
                moved[int(row["event"])] += int(row["count"])

    heard = Replay(workload, _tight(), checksum=True, on_events=hear).run()
    assert heard.decisions == silent.decisions
    assert moved[schema.SWAPPED_IN] == heard.sums["host_restored"] > 0
    assert moved[schema.SWAPPED_OUT] == heard.sums["host_written"] > 0


@pytest.mark.variants
@pytest.mark.parametrize("write_back", ["evict", "free"])
def test_unbounded_is_the_ceiling(write_back: Any) -> None:
    """GIVEN a tiny device over a tier without bound WHEN one runs at a time THEN no hit is lost."""
    workload = generate("conversation").head(200)
    config = EngineConfig(
        num_blocks=600, max_num_seqs=1, host_blocks=300_000, host_write_back=write_back
    )
    result = Replay(workload, config).run()
    figures = measure_replay(result, workload, Conditions(usable_blocks=599, block_size=16))
    assert result.decisions["prefix_hits"] == figures["prefix.ceiling_hit_tokens"]
    shares = [figures[f"tier.{which}_token_hit_rate"] for which in ("device", "host")]
    assert sum(share or 0.0 for share in shares) == pytest.approx(figures["prefix.token_hit_rate"])
    assert figures["tier.evictions_blocks"] == 0


@pytest.mark.variants
@pytest.mark.skipif(not _TRACE.exists(), reason="the public trace is not here (KVATLAS_SHARED)")
def test_unbounded_is_the_ceiling_of_the_conversation_trace() -> None:
    """GIVEN 3 M tokens on the device WHEN the host has no bound THEN hits are the ceiling."""
    workload = load(_TRACE, format="mooncake")
    config = EngineConfig(num_blocks=187_500, max_num_seqs=1, host_blocks=12_000_000)
    result = Replay(workload, config).run()
    figures = measure_replay(result, workload, Conditions(usable_blocks=187_499, block_size=16))
    assert result.decisions["prefix_hits"] == figures["prefix.ceiling_hit_tokens"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host_blocks": -1}, "host_blocks"),
        ({"host_blocks": 5, "host_policy": "return-rate"}, "host_policy"),
        ({"host_blocks": 5, "host_write_back": "later"}, "host_write_back"),
        ({"host_blocks": 5, "swap": "perhaps"}, "swap"),
        ({"host_blocks": 5, "host_bandwidth": 1e9}, "host_bandwidth"),
        ({"host_blocks": 5, "host_bandwidth": float("nan")}, "host_bandwidth"),
        ({"host_blocks": 5, "enable_prefix_caching": False}, "host_blocks"),
        (
            {
                "host_blocks": 5,
                "kv_cache_groups": (SlidingWindowSpec(block_size=16, sliding_window=64),),
            },
            "host_blocks",
        ),
    ],
    ids=str,
)
def test_bad_settings_are_one_line(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        EngineConfig(num_blocks=100, **changes)
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


def test_embedded_engines_are_told_where_to_go() -> None:
    with pytest.raises(InputError, match="SwapManager"):
        KVCacheManager(EngineConfig(num_blocks=100, host_blocks=5))


@pytest.mark.variants
def test_check_sees_what_was_left_in_transit() -> None:
    """GIVEN a find that outlived its admission WHEN checked THEN it is named."""
    replay = Replay(generate("conversation").head(30), _tight(), DriveConfig(queue_depth=4))
    replay.run()
    assert replay.engine.pool.tier is not None
    replay.engine.pool.tier.info.found = 2
    with pytest.raises(InvariantError, match="outlived"):
        replay.check()


@pytest.mark.variants
@pytest.mark.parametrize("write_back", ["evict", "free", "preempt"])
def test_what_never_comes_back_is_not_written(write_back: str) -> None:
    """GIVEN blocks that are computed sooner WHEN swap weighs THEN the tier stays out of it."""
    workload = generate("conversation", seed=3, num_requests=60 if COMPILED else 25)
    settings: dict[str, Any] = {
        "host_blocks": 3_000,
        "host_block_bytes": 2 << 20,
        "host_write_back": write_back,
    }
    plain = EngineConfig(num_blocks=400, max_num_seqs=16)
    alone = Replay(workload, plain, DriveConfig()).run()

    def run(bandwidth: float, **more: Any) -> Any:
        config = plain.with_(**settings, host_bandwidth=bandwidth, **more)
        return Replay(workload, config, DriveConfig()).run()

    # 16 tokens take 0.192 ms to compute: 10.9 GB/s for 2 MiB.
    slow = run(10e9)
    assert slow.sums["host_written"] == slow.sums["host_moving_ms"] == 0
    assert slow.decisions["prefix_hits"] == alone.decisions["prefix_hits"]
    np.testing.assert_array_equal(slow.finished_ms, alone.finished_ms)
    assert run(10e9, swap="always").sums["host_written"] > 0
    if write_back != "preempt":
        assert run(12e9).sums["host_written"] > 0
