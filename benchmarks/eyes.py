"""What it costs to listen, to track fragmentation, and to freeze a pool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clock import Seconds, repeat
from benchmarks.slope import Point, Slope
from benchmarks.trace import Trace
from kvatlas.engine import EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import (
    EVENT,
    Chunk,
    EventWriter,
    Group,
    Header,
    PoolState,
    open_recording,
    snapshot_of,
)
from kvatlas.events.schema import ALLOCATED, BY_PREFILL, COLUMNS
from kvatlas.measure.fragmentation.tracker import FragmentationTracker
from kvatlas.measure.run import RunMeasurement

_TABLES = 256


@dataclass(frozen=True)
class Listening:
    """One pool: the replay alone, recorded to a file, tracked, and measured from the file."""

    num_blocks: int
    events: int
    block_ids: int
    file_bytes: int
    plain: Seconds
    recorded: Seconds
    tracked: Seconds
    tracked_exactly: Seconds
    measured: Seconds

    @property
    def recording_over_plain(self) -> float:
        """What recording adds, as a share of the replay."""
        return self.recorded.median / self.plain.median - 1

    @property
    def tracking_over_recorded(self) -> float:
        """What the tracker takes, as a share of the recorded replay."""
        return self.tracked.median / self.recorded.median


def listening(trace: Trace, num_blocks: int, *, repeats: int, folder: Path) -> Listening:
    """Replay `trace` with and without a recording, then let the measurements look at it."""
    workload, config = trace.workload, EngineConfig(num_blocks=num_blocks)
    path = str(folder / "events.parquet")
    events = 0

    def plain() -> float:
        replay = Replay(workload, config)
        started = time.perf_counter()
        replay.run()
        return time.perf_counter() - started

    def recorded() -> float:
        nonlocal events
        replay = Replay(workload, config)
        writer = EventWriter(path, recording_header(replay, version="bench", engine="vLLM"))
        replay.listen(writer.append)
        started = time.perf_counter()
        replay.run()
        writer.close()
        events = writer.events
        return time.perf_counter() - started

    plain(), recorded()
    times = [(plain(), recorded()) for _ in range(repeats)]
    recording = open_recording(path)
    ids = sum(len(chunk.ids) for chunk in recording.chunks())

    def tracked(mode: str) -> float:
        tracker = FragmentationTracker(recording.header, mode=mode)  # type: ignore[arg-type]
        seconds = 0.0
        for chunk in recording.resolved():
            started = time.perf_counter()
            tracker.feed(chunk)
            seconds += time.perf_counter() - started
        return seconds

    def measured() -> float:
        started = time.perf_counter()
        measurement = RunMeasurement(recording.header)
        for chunk in recording.resolved():
            measurement.feed(chunk)
        measurement.figures()
        return time.perf_counter() - started

    tracked("sampled"), tracked("exact"), measured()
    return Listening(
        num_blocks=num_blocks,
        events=events,
        block_ids=ids,
        file_bytes=Path(path).stat().st_size,
        plain=Seconds(tuple(time[0] for time in times)),
        recorded=Seconds(tuple(time[1] for time in times)),
        tracked=repeat(lambda: tracked("sampled"), repeats),
        tracked_exactly=repeat(lambda: tracked("exact"), repeats),
        measured=repeat(measured, min(3, repeats)),
    )


def over_snapshots(sizes: Sequence[int], *, repeats: int) -> Slope:
    """Freeze pools of 1k to 1M blocks of which half is owned; nanoseconds per block."""
    points = []
    for size in sizes:
        state = _half_used(size)
        seconds = repeat(lambda state=state: _freeze(state), repeats, at_least_s=0.05)  # type: ignore[misc]
        points.append(Point(size, size, seconds.median / size * 1e9))
    return Slope("blocks of a snapshot", tuple(points), per="block")


def _freeze(state: PoolState) -> float:
    started = time.perf_counter()
    snapshot_of(state)
    return time.perf_counter() - started


def _half_used(num_blocks: int) -> PoolState:
    each = max(1, num_blocks // 2 // _TABLES)
    header = Header(
        schema=1, kvatlas="bench", producer="replay", engine="vLLM", num_blocks=num_blocks,
        has_null=True, caching=True, groups=(Group("FullAttentionSpec", 16),), hash_block_size=16,
        max_num_seqs=_TABLES, max_table_blocks=each, num_requests=_TABLES,
    )  # fmt: skip
    rows = np.zeros(_TABLES, EVENT)
    for column in COLUMNS:
        rows[column.name] = column.absent
    rows["event"], rows["cause"], rows["group"], rows["position"] = ALLOCATED, BY_PREFILL, 0, 0
    rows["count"], rows["ref_count"] = each, 1
    rows["request"] = np.arange(_TABLES)
    rows["blocks_at"] = np.arange(_TABLES) * each
    ids = 1 + np.random.default_rng(0).permutation(num_blocks - 1)[: _TABLES * each]
    state = PoolState(header)
    state.advance(Chunk(rows, ids.astype(np.int32)))
    return state
