"""A pool alone that makes a replay's calls gives the replay's blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streams import record, small_workload

from kvatlas.engine import DriveConfig, EngineConfig, SlidingWindowSpec
from kvatlas.engine.pool_calls import PoolCalls
from kvatlas.errors import InputError, InvariantError
from kvatlas.events import Chunk
from kvatlas.events.schema import ALLOCATED, RESET
from kvatlas.placement import PLACEMENTS


def config(**changes: Any) -> EngineConfig:
    settings: dict[str, Any] = {
        "num_blocks": 40,
        "block_size": 4,
        "max_num_seqs": 5,
        "max_num_batched_tokens": 32,
        "max_model_len": 128,
    }
    return EngineConfig(**settings | changes)


@pytest.mark.variants
@pytest.mark.parametrize("placement", list(PLACEMENTS))
@pytest.mark.parametrize("caching", [True, False])
def test_the_pool_alone_ends_as_the_engines_own(placement: str, caching: bool) -> None:
    """GIVEN replays under pressure WHEN the calls are made again THEN the pools are equal."""
    settings = config(placement=placement, enable_prefix_caching=caching)
    for seed in range(6):
        stream = record(small_workload(seed, rows=30), settings, max_steps=7)
        alone = PoolCalls(settings, stream.header)
        for chunk in stream.resolved():
            alone.feed(chunk)
        alone.check()
        rows = stream.rows()
        allocated = rows[rows["event"] == ALLOCATED]
        assert alone.blocks == int(allocated["count"].sum())
        assert alone.calls == len(allocated)
        assert alone.seconds > 0
        own = stream.replay.engine.pool
        assert own.info.evictions == alone.pool.info.evictions
        assert np.array_equal(own.blocks["next_free"], alone.pool.blocks["next_free"])
        assert np.array_equal(own.blocks["key"], alone.pool.blocks["key"])


@pytest.mark.variants
def test_another_pool_than_the_replays_own_is_told() -> None:
    stream = record(small_workload(3, rows=30), config(placement="sorted"))
    other = PoolCalls(config(), stream.header)
    with pytest.raises(InvariantError, match="other blocks"):
        for chunk in stream.resolved():
            other.feed(chunk)


def test_what_is_no_call_of_a_replay_is_told() -> None:
    stream = record(small_workload(3), config(), DriveConfig(queue_depth=4))
    chunk = next(stream.resolved())
    rows = chunk.rows[:1].copy()
    rows["event"] = RESET
    with pytest.raises(InvariantError, match="'reset'"):
        PoolCalls(config(), stream.header).feed(Chunk(rows, chunk.ids))


def test_what_the_events_do_not_tell_is_refused() -> None:
    header = record(small_workload(3), config()).header
    with pytest.raises(InputError, match="eviction_policy"):
        PoolCalls(config(eviction_policy="sieve"), header)
    window = (SlidingWindowSpec(block_size=4, sliding_window=8),)
    with pytest.raises(InputError, match="kv_cache_groups"):
        PoolCalls(config(kv_cache_groups=window), header)
