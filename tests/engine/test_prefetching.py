"""Prefetch from the host tier for who waits: found on the device at admission, time hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header, snapshot_of_engine
from kvatlas.engine.results import ReplayResult
from kvatlas.events import Chunk, PoolState, snapshot_of
from kvatlas.jit import COMPILED
from kvatlas.workload import Workload, generate

pytestmark = pytest.mark.rare

COUNT = 150 if COMPILED else 40
HOST: dict[str, Any] = {"host_blocks": 4000, "host_block_bytes": 2 << 20}


def hurried(count: int, seed: int = 3) -> Workload:
    """Return conversations that come seven times as fast, so that some have to wait."""
    workload = generate("conversation", seed=seed, num_requests=count)
    return workload.with_(arrival_s=workload.arrival_s * 0.15)


def run(**changes: Any) -> tuple[ReplayResult, Replay]:
    workload = hurried(COUNT)
    config = EngineConfig(num_blocks=900, max_num_seqs=24, **(HOST | changes))
    replay = Replay(workload, config, DriveConfig(arrivals="timed"))
    for _ in replay.slices(max_steps=2000):
        replay.check()
    replay.check()
    return replay.result(), replay


def test_what_was_prefetched_is_found_on_the_device() -> None:
    """GIVEN a host tier WHEN blocks come early THEN as much is hit, their way mostly hidden."""
    late, _ = run(host_bandwidth=20e9)
    early, replay = run(host_bandwidth=20e9, protect_waiting=8)
    assert early.sums["pressure_prefetched"] > 0
    assert early.decisions["finished"] == late.decisions["finished"] == COUNT
    # Blocks that came before the admission are the device's own hits there.
    assert early.sums["restored"] < late.sums["restored"]
    assert float(early.decisions["hit_rate"]) > float(late.decisions["hit_rate"]) - 0.01
    # Most of their way is hidden behind the steps that compute meanwhile.
    shown_ms = early.sums["host_moving_ms"] - late.sums["host_moving_ms"]
    way_ms = early.sums["pressure_prefetched"] * replay.config.host_ms_per_block
    assert shown_ms < 0.5 * way_ms


def test_who_gives_back_late_writes_as_much() -> None:
    """GIVEN write-back on free WHEN blocks come back some steps later THEN none goes unwritten."""
    eager, _ = run(host_write_back="free", protect_waiting=1)
    lazy, _ = run(host_write_back="free", protect_waiting=1, lazy_free_steps=4)
    assert lazy.sums["pressure_lazy_kept"] == COUNT
    assert eager.sums["host_written"] > COUNT
    assert lazy.sums["host_written"] > 0.9 * eager.sums["host_written"]


def test_without_a_tier_nothing_is_fetched() -> None:
    result, _ = run(host_blocks=0, host_block_bytes=0, protect_waiting=8)
    assert result.sums["pressure_prefetched"] == 0
    assert result.sums["pressure_refreshed_blocks"] > 0


@pytest.mark.parametrize("policy", ["lru", "fifo", "s3-fifo"])
@pytest.mark.parametrize("write_back", ["evict", "free"])
def test_events_and_books_hold(policy: str, write_back: str) -> None:
    """GIVEN prefetches WHEN recorded THEN the pool rebuilt from the events is the engine's."""
    workload = hurried(COUNT // 2, seed=5)
    config = EngineConfig(
        num_blocks=900,
        max_num_seqs=24,
        protect_waiting=4,
        host_policy=policy,
        host_write_back=write_back,  # type: ignore[arg-type]
        host_bandwidth=20e9,
        **HOST,
    )
    chunks: list[Chunk] = []
    replay = Replay(
        workload,
        config,
        DriveConfig(arrivals="timed"),
        on_events=lambda chunk: chunks.append(chunk.copy()),
    )
    state = PoolState(recording_header(replay, version="test", engine="test"))
    for _ in replay.slices(max_steps=500):
        replay.check()
        for chunk in chunks:
            state.advance(chunk)
        chunks.clear()
        state.check()
    for chunk in chunks:
        state.advance(chunk)
    seen = snapshot_of(state)
    assert seen == snapshot_of_engine(replay.engine, seen.event, seen.step, seen.time_s)
    stepped = Replay(
        workload, config, DriveConfig(arrivals="timed"), on_words=lambda words: None
    ).run()
    assert stepped.decisions == replay.result().decisions
    assert np.array_equal(stepped.finished_ms, replay.result().finished_ms, equal_nan=True)
