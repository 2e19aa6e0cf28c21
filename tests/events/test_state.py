"""The pool rebuilt from events equals the engine's own, at every moment; lies are found out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from profiles_events import EXAMPLES
from streams import Stream, record, small_workload, streams

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.nano import NanoConfig, NanoReplay
from kvatlas.engine.recorded import recording_header, snapshot_of_engine
from kvatlas.errors import InputError, InvariantError
from kvatlas.events import Chunk, PoolState, resolved, snapshot_of
from kvatlas.events._log_kernel import make_log
from kvatlas.events.schema import COLUMNS


def follow(replay: Replay, chunks: list[Chunk], steps: int) -> int:
    """Run in slices of `steps`, comparing after each; return how many were compared."""
    header = recording_header(replay, version="test", engine="test")
    state, compared = PoolState(header), 0
    for _ in replay.slices(max_steps=steps):
        for chunk in chunks:
            state.advance(chunk)
        chunks.clear()
        state.check()
        seen = snapshot_of(state)
        assert seen == snapshot_of_engine(replay.engine, seen.event, seen.step, seen.time_s)
        compared += 1
    return compared


@settings(max_examples=2 * EXAMPLES)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(24, 90),
    steps=st.integers(1, 5),
    ahead=st.booleans(),
    caching=st.integers(0, 4),
    timed=st.booleans(),
)
def test_vllm_at_every_slice(
    seed: int, blocks: int, steps: int, ahead: bool, caching: int, timed: bool
) -> None:
    """GIVEN a replay under pressure WHEN events are applied THEN the pools are equal throughout."""
    config = EngineConfig(
        num_blocks=blocks,
        block_size=4,
        max_num_seqs=5,
        max_num_batched_tokens=32,
        max_model_len=128,
        async_scheduling=ahead,
        enable_prefix_caching=caching > 0,
    )
    drive = DriveConfig(arrivals="timed" if timed else "backlog", queue_depth=5)
    chunks: list[Chunk] = []
    replay = Replay(
        small_workload(seed), config, drive, on_events=lambda chunk: chunks.append(chunk.copy())
    )
    assert follow(replay, chunks, steps) > 0


@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(14, 60),
    version=st.sampled_from(["bb823b3", "9e8507e"]),
)
def test_nano_vllm_at_every_slice(seed: int, blocks: int, version: str) -> None:
    config = NanoConfig(
        num_blocks=blocks, block_size=4, max_num_seqs=5, max_num_batched_tokens=64, version=version
    )
    chunks: list[Chunk] = []
    replay = NanoReplay(
        small_workload(seed), config, on_events=lambda chunk: chunks.append(chunk.copy())
    )
    assert follow(replay, chunks, 3) > 0


@settings(max_examples=EXAMPLES)
@given(stream=streams(hybrid=True), part=st.floats(0, 1))
def test_any_event_may_be_the_last(stream: Stream, part: float) -> None:
    """GIVEN a stream WHEN stopped at event N and gone on THEN it ends as without stopping."""
    at = int(part * len(stream.rows()))
    stopped, whole = PoolState(stream.header), PoolState(stream.header)
    for chunk in stream.raw:
        whole.advance(chunk)
        stop = min(len(chunk.rows), max(0, at - stopped.events))
        stopped.advance(chunk, stop)
        stopped.check()
        stopped.advance(Chunk(chunk.rows[stop:], chunk.ids))
    assert stopped.events == whole.events == len(stream.rows())
    assert snapshot_of(stopped) == snapshot_of(whole)


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1000), ahead=st.booleans())
def test_listening_changes_nothing(seed: int, ahead: bool) -> None:
    config = EngineConfig(
        num_blocks=50, block_size=4, max_num_seqs=5, max_num_batched_tokens=32,
        max_model_len=128, async_scheduling=ahead,
    )  # fmt: skip
    plain = Replay(small_workload(seed), config, checksum=True).run()
    heard = Replay(small_workload(seed), config, checksum=True, on_events=lambda chunk: None).run()
    assert plain.decisions == heard.decisions
    assert plain.sums == heard.sums


@settings(max_examples=5 * EXAMPLES)
@given(
    seed=st.integers(0, 3),
    column=st.sampled_from([column.name for column in COLUMNS] + ["blocks_at"]),
    at=st.floats(0, 0.999),
    value=st.one_of(st.integers(-3, 300), st.integers(-(2**31), 2**31 - 1)),
)
def test_a_lie_is_found_or_harmless(seed: int, column: str, at: float, value: int) -> None:
    """GIVEN one field of one event changed WHEN applied THEN it is refused, or nothing breaks."""
    config = EngineConfig(
        num_blocks=40, block_size=4, max_num_seqs=4, max_num_batched_tokens=32, max_model_len=128
    )
    stream = record(small_workload(seed), config)
    raw = [chunk.copy() for chunk in stream.raw]
    chunk = raw[int(at * len(raw))]
    assume(len(chunk.rows))
    field = chunk.rows[column]
    info = np.iinfo(field.dtype) if field.dtype.kind == "i" else None
    if info is not None:
        value = max(info.min, min(info.max, value))
    field[int(at * len(field))] = value
    state = PoolState(stream.header)
    try:
        for chunk in raw:
            state.advance(chunk)
        for _ in resolved(raw, stream.header):
            pass
    except InputError as error:
        assert "\n" not in str(error)


def test_the_contradiction_is_named() -> None:
    """GIVEN an owner too many WHEN applied THEN the message names the event and the block."""
    config = EngineConfig(num_blocks=60, block_size=4, max_model_len=128)
    stream = record(small_workload(1), config)
    chunk = stream.raw[0].copy()
    freed = int(np.flatnonzero(chunk.rows["event"] == 8)[0])
    chunk.rows["ref_count"][freed] += 1
    with pytest.raises(InputError, match=f"event {freed} contradicts the events before it"):
        PoolState(stream.header).advance(chunk)


def test_lost_events_are_no_silence() -> None:
    """GIVEN a log too small for a step WHEN it is emptied THEN the replay says what it lost."""
    replay = Replay(small_workload(1), EngineConfig(num_blocks=60, block_size=4, max_model_len=128))
    replay.listen(lambda chunk: None)
    small = make_log(4, 4)
    replay.engine = replay.engine._replace(pool=replay.engine.pool._replace(log=small))
    with pytest.raises(InvariantError, match="more events than the log has room"):
        replay.run()
