"""Moved blocks in the recorded stream: the pool rebuilt from it is the engine's own, and what is
measured of it is what is measured of a run in which nothing moved."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles_defrag import EXAMPLES
from streams import small_workload
from test_relabel import small_config

from kvatlas.defrag import (
    Compact,
    ContiguousTables,
    FreeRun,
    Goal,
    MemoryDefragmenter,
    ReleasePages,
)
from kvatlas.engine import Replay
from kvatlas.engine.recorded import recording_header, snapshot_of_engine
from kvatlas.events import Chunk, Header, PoolState, resolved, schema, snapshot_of
from kvatlas.events._log_kernel import make_log
from kvatlas.events.moves import move_rows, put_moves
from kvatlas.measure.fragmentation import FragmentationTracker
from kvatlas.measure.run import RunMeasurement
from kvatlas.watch.tally import LiveTally

MOVED_FIGURES = ("fragmentation.",)
"""What moving is for: everything else must not change."""


def some_goal(rng: random.Random, num_blocks: int) -> Goal:
    keep = rng.random() < 0.3
    goals: list[Goal] = [
        ReleasePages(rng.randint(1, 8), keep_cached=keep),
        FreeRun(rng.randint(1, num_blocks // 2), keep_cached=keep),
        ContiguousTables(),
        Compact(keep_cached=keep),
        Compact(tables=True, keep_cached=keep),
    ]
    return rng.choice(goals)


@pytest.mark.slow
@settings(max_examples=max(3, EXAMPLES // 4), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(24, 90),
    steps=st.integers(1, 9),
    hybrid=st.booleans(),
    ahead=st.booleans(),
)
def test_the_stream_stays_exact(
    seed: int, blocks: int, steps: int, hybrid: bool, ahead: bool
) -> None:
    """GIVEN a recorded replay WHEN defragmented between its steps THEN every reader follows."""
    config = small_config(blocks, "lru", hybrid, ahead)
    rng = random.Random(seed)
    plain, moved = [], []
    twin = Replay(small_workload(seed), config, on_events=lambda chunk: plain.append(chunk.copy()))
    for _ in twin.slices(max_steps=steps):  # a refusal that lasts is a row in each slice
        twin.flush_events()
    ours = Replay(small_workload(seed), config, on_events=lambda chunk: moved.append(chunk.copy()))
    defragmenter = MemoryDefragmenter(ours)
    header = recording_header(ours, version="test", engine="test")
    state, tracker = PoolState(header), FragmentationTracker(header, mode="exact")
    tally, done = LiveTally(header), 0
    copied = 0
    for _ in ours.slices(max_steps=steps):
        if int(ours.engine.queue.num_running) == 0:
            continue  # at the end a move would be the last event, and means run up to that
        report = defragmenter.defragment(some_goal(rng, config.num_blocks))
        copied += 0 if report is None else report.moved_blocks
        ours.flush_events()
        for chunk in moved[done:]:
            state.advance(chunk.copy())
        state.check()
        done = len(moved)
        seen = snapshot_of(state)
        assert seen == snapshot_of_engine(ours.engine, seen.event, seen.step, seen.time_s)
    for chunk in moved[done:]:
        state.advance(chunk.copy())
    assert ours.result().decisions == twin.result().decisions
    for chunk in resolved((chunk.copy() for chunk in moved), header):
        tracker.feed(chunk)
        tally.feed(chunk)
    end = snapshot_of(state)
    used, cached = tracker.states()
    assert np.array_equal(used, end.states() == 2)
    assert np.array_equal(cached[1:], end.key[1:] >= 0)
    assert int(tally.now.used) == int((end.ref_count[1:] > 0).sum())
    before, after = measured(header_of(twin), plain), measured(header, moved)
    assert set(before) == set(after)
    changed = {
        name: (before[name], after[name])
        for name in before
        if not (same(before[name], after[name]) or name.startswith(MOVED_FIGURES))
    }
    assert changed == {}
    told = sum(
        int(chunk.rows["count"][chunk.rows["event"] == schema.MOVED].sum()) for chunk in moved
    )
    assert copied <= told <= copied + copied // 2


def header_of(replay: Replay) -> Header:
    return recording_header(replay, version="test", engine="test")


def same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < 1e-9)


def measured(header: Header, chunks: list[Chunk]) -> dict[str, float | None]:
    run = RunMeasurement(header)
    for chunk in resolved((chunk.copy() for chunk in chunks), header):
        run.feed(chunk)
    return dict(run.figures().values)


def test_rows_join_where_targets_follow() -> None:
    """GIVEN moves in order THEN a row's targets follow each other; a circle's have their own."""
    sources, targets = np.array([9, 8, 5, 4, 0]), np.array([2, 3, 0, 5, 4])
    assert move_rows(sources, targets).tolist() == [0, 2, 3, 4]
    log = make_log(8, 8)
    log.info.step, log.info.time_ms = 7, 1.5
    assert put_moves(log, sources, targets)
    rows = log.rows[:4]
    assert rows["event"].tolist() == [schema.MOVED] * 4
    assert rows["count"].tolist() == [2, 1, 1, 1]
    assert rows["to_block"].tolist() == [2, 0, 5, 4]
    assert rows["step"].tolist() == [7] * 4 and rows["request"].tolist() == [-1] * 4
    assert log.ids[:5].tolist() == sources.tolist()


@pytest.mark.parametrize(("rows", "ids"), [(3, 8), (8, 4)])
def test_no_room_writes_nothing(rows: int, ids: int) -> None:
    log = make_log(rows, ids)
    assert not put_moves(log, np.array([9, 8, 5, 4, 0]), np.array([2, 3, 0, 5, 4]))
    assert int(log.info.used) == int(log.info.ids_used) == 0
