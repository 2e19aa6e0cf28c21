"""Comb, sawtooth and survivors through the engine, with every number worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streams import Stream, record

from kvatlas.engine import EngineConfig
from kvatlas.events import Chunk, schema
from kvatlas.events.snapshot import snapshot_of
from kvatlas.events.state import PoolState
from kvatlas.measure.fragmentation import (
    BlockLayoutAnalyzer,
    FragmentationResult,
    FragmentationTracker,
    Layout,
)
from kvatlas.workload import generate


def replayed(name: str, num_blocks: int, **knobs: Any) -> Stream:
    return record(generate(name, **knobs), EngineConfig(num_blocks=num_blocks, block_size=16))


def once_finished(stream: Stream, request: int) -> tuple[Layout, FragmentationResult]:
    """Return what snapshot and tracker see right after `request` has finished."""
    raw, chunk = stream.raw[0], next(iter(stream.resolved()))
    done = (chunk.rows["event"] == schema.FINISHED) & (chunk.rows["request"] == request)
    stop = int(np.flatnonzero(done)[0]) + 1
    state, tracker = PoolState(stream.header), FragmentationTracker(stream.header)
    state.advance(raw, stop)
    tracker.feed(Chunk(chunk.rows[:stop], chunk.ids))
    return BlockLayoutAnalyzer(snapshot_of(state)).layout(), tracker.result()


def test_comb() -> None:
    """Ten requests of 4 blocks side by side; the even ones leave, 3 of 4 blocks cached."""
    # Block 0 is null, then  ooo.#### five times, then 8 that were never used.
    stream = replayed(
        "comb", 49, num_requests=10, prompt_tokens=60, short_output_tokens=3, long_output_tokens=100
    )
    layout, result = once_finished(stream, 8)
    assert (layout.used, layout.evictable, layout.empty) == (20, 15, 13)
    assert layout.free.lengths.tolist() == [4, 4, 4, 4, 4, 8]
    assert layout.empty_only.lengths.tolist() == [1, 1, 1, 1, 1, 8]
    assert layout.free.efi == pytest.approx(20 / 28)
    assert layout.empty_only.efi == pytest.approx(5 / 13)
    assert layout.free.ufsi[:4].tolist() == pytest.approx([0, 0, 0, 20 / 28])
    assert layout.pattern.name == "comb"
    assert layout.pattern.numbers["holes"] == 4  # the first run and the last have one wall only
    assert layout.tables.runs.tolist() == [1] * 5
    assert layout.tables.free_edges.tolist() == [2] * 5
    assert (result.free.runs, result.free.largest) == (6, 8)
    assert (result.empty_only.runs, result.empty_only.largest) == (6, 8)
    assert result.requests.runs.tolist() == [1, 0] * 5  # who still holds blocks gave none back


def test_sawtooth() -> None:
    """Three ramps of 1 2 3 4 blocks; the last block of each request is not full, so not cached."""
    # Behind the null block  .o.oo.ooo.  three times, then 29 that were never used.
    stream = replayed(
        "sawtooth", 60, num_requests=12, period=4, low_tokens=12, high_tokens=60, output_tokens=3
    )
    layout, result = once_finished(stream, 11)
    assert (layout.used, layout.evictable, layout.empty) == (0, 18, 41)
    assert layout.free.lengths.tolist() == [59]
    assert layout.free.efi == 0
    assert layout.empty_only.lengths.tolist() == [1, 1, 1, 2, 1, 1, 2, 1, 1, 30]
    assert layout.empty_only.efi == pytest.approx(11 / 41)
    # Pieces of 2: two pairs and all of the 30; pieces of 16: one in the 30.
    assert layout.empty_only.ufsi[1] == pytest.approx(1 - 34 / 41)
    assert layout.empty_only.ufsi[4] == pytest.approx(1 - 16 / 41)
    assert (layout.empty_only.p50, layout.empty_only.p99) == (1, 30)
    assert layout.pattern.name == "none"
    assert (result.free.runs, result.empty_only.runs, result.empty_only.largest) == (1, 10, 30)
    assert result.requests.blocks.tolist() == [1, 2, 3, 4] * 3


def test_survivors() -> None:
    """Two in three requests of 5 blocks leave; the third, of 1 block, stays."""
    # Behind the null block  oooooooooo#  three times; their 6th blocks lay behind, and are empty.
    stream = replayed(
        "survivors", 60, num_requests=9, every=3, survivor_prompt_tokens=10,
        survivor_output_tokens=60, churn_low_tokens=80, churn_high_tokens=80, churn_output_tokens=4,
    )  # fmt: skip
    layout, result = once_finished(stream, 7)
    assert (layout.used, layout.evictable, layout.empty) == (3, 30, 26)
    assert layout.free.lengths.tolist() == [10, 10, 10, 26]
    assert layout.free.efi == pytest.approx(30 / 56)
    assert layout.empty_only.efi == 0
    # Pieces of 8: one in each 10 and three in the 26; of 16: one.
    assert layout.free.ufsi[3:5].tolist() == pytest.approx([1 - 48 / 56, 1 - 16 / 56])
    assert layout.pattern.name == "survivors"
    assert layout.pattern.numbers["mean_wall_blocks"] == 1
    assert (result.free.runs, result.free.largest) == (4, 26)
    # 1 2 3 4 5 and, two tokens later, a block behind everybody's prompts.
    assert result.requests.runs.tolist() == [2, 2, 0] * 3
    assert result.requests.blocks.tolist() == [6, 6, 0] * 3
