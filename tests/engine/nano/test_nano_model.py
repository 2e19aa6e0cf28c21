"""The compiled profile against the plain model: every step, every block, every count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nano_cases import by_hand
from nano_model import ModelNano
from nano_plain import STEP, PlainRun, drive_plain

from kvatlas.engine.kernels.state import NONE
from kvatlas.engine.nano import NanoConfig, NanoReplay
from kvatlas.engine.nano.check import free_block_ids
from kvatlas.engine.replay import DriveConfig
from kvatlas.workload import Workload


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Workload, int]:
    """Draw a small workload with much sharing, and a block size that fits it."""
    block_size = draw(st.integers(2, 6))
    span = block_size * draw(st.integers(1, 3))
    if draw(st.booleans()):
        span, block_size = block_size, span
    rows = draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(0, 1), min_size=1, max_size=4),
                st.integers(1, 30),
                st.integers(1, 14),
                st.sampled_from([0.0, 0.0, 0.01, 0.2]),
            ),
            min_size=1,
            max_size=14,
        )
    )
    return by_hand(rows, span, outputs_identified=draw(st.booleans())), block_size


def split_steps(words: np.ndarray[Any, Any]) -> list[list[int]]:
    """Cut a stream of words into steps."""
    steps: list[list[int]] = []
    for word in words.tolist():
        if word == STEP:
            steps.append([])
        steps[-1].append(word)
    return steps


def tables_of(replay: NanoReplay) -> dict[int, list[int]]:
    engine = replay.engine
    return {
        row: engine.table[0, slot, : int(engine.tables[0, slot].length)].tolist()
        for row, slot in enumerate(engine.requests["slot"].tolist())
        if slot != NONE
    }


def assert_equal(workload: Workload, config: NanoConfig, drive: DriveConfig) -> int:
    """Compare model and profile step by step; return the number of steps."""
    seen: list[np.ndarray[Any, Any]] = []
    replay = NanoReplay(workload, config, drive, on_words=seen.append)
    replay.check()
    slices = replay.slices(max_steps=1)
    model = ModelNano(
        config.num_blocks,
        config.block_size,
        config.max_num_seqs,
        config.max_num_batched_tokens,
        config.rules.chunked_prefill,
    )
    run = PlainRun()
    plain = drive_plain(model, workload, config.num_blocks, config.block_size, drive, run)
    for step in plain:
        next(slices)
        replay.check()
        assert split_steps(seen[-1]) == [step.words]
        assert free_block_ids(replay.engine.pool) == step.free
        assert tables_of(replay) == step.tables
        queue = replay.engine.queue
        assert replay.engine.running[: int(queue.num_running)].tolist() == step.running
    assert next(slices, None) is None
    summed = NanoReplay(workload, config, drive, checksum=True)
    result = summed.run()
    assert result.decisions == run.decisions()
    assert sorted(result.rejected) == sorted(run.rejected)
    finished = {
        row: time for row, time in enumerate(result.finished_ms.tolist()) if not np.isnan(time)
    }
    assert finished == pytest.approx(run.finished_ms)
    assert not result.partial
    return run.counts["steps"]


@given(
    drawn=workloads(),
    num_blocks=st.integers(1, 24),
    max_num_seqs=st.sampled_from([1, 2, 3, 64]),
    max_tokens=st.sampled_from([1, 5, 8, 30, 1000]),
    version=st.sampled_from(["bb823b3", "9e8507e"]),
    arrivals=st.sampled_from(["backlog", "timed"]),
    queue_depth=st.sampled_from([1, 3, 256]),
)
@settings(max_examples=150, deadline=None)
def test_every_step_equals_the_model(
    drawn: tuple[Workload, int],
    num_blocks: int,
    max_num_seqs: int,
    max_tokens: int,
    version: str,
    arrivals: Any,
    queue_depth: int,
) -> None:
    workload, block_size = drawn
    config = NanoConfig(
        num_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_tokens,
        version=version,
    )
    assert_equal(workload, config, DriveConfig(arrivals=arrivals, queue_depth=queue_depth))


@pytest.mark.parametrize("version", ["bb823b3", "9e8507e"])
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_operations_equal_the_model(version: str, seed: int) -> None:
    # GIVEN conversations whose turns extend each other, over a pool that is far too small
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(120):
        ids = rng.integers(0, 2, rng.integers(1, 5)).tolist()
        rows.append((ids, int(rng.integers(1, 60)), int(rng.integers(1, 25)), 0.004))
    workload = by_hand(rows, 8, outputs_identified=seed % 2 == 1)
    config = NanoConfig(
        num_blocks=int(rng.integers(22, 40)),
        block_size=4,
        max_num_seqs=5,
        max_num_batched_tokens=90,
        version=version,
    )
    # WHEN and THEN
    drive = DriveConfig(arrivals="timed" if seed > 1 else "backlog", queue_depth=12)
    assert assert_equal(workload, config, drive) > 300
