"""Frames: every cell of every frame is what a slow model says, whatever is packed away."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, streams

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.events import Header, schema
from kvatlas.events.chunk import Chunk
from kvatlas.events.snapshot import EMPTY, EVICTABLE, USED
from kvatlas.measure.frames import BlockFrames, take_frames
from kvatlas.workload import generate

_LAST_TICK = 65_534
Uses = dict[int, list[tuple[int, int, bool]]]  # block: (event, tick, is a hit)


class Model:
    """Blocks as dictionaries, from the definitions; times in ticks."""

    def __init__(self, chunks: list[Chunk], header: Header, ticks: tuple[int, ...]) -> None:
        self.header = header
        rows = [
            (row, ids)
            for chunk in chunks
            for row, ids in zip(chunk.rows, listed(chunk), strict=True)
        ]
        times = [float(row["time_ms"]) for row, _ in rows] or [0.0]
        self.start_ms = min(times)
        self.tick_ms = max(max(times) - min(times), 1e-9) / _LAST_TICK
        self.state = [
            {"owner": -1, "refs": 0, "key": -1, "since": 0} for _ in range(header.num_blocks)
        ]
        self.frames: list[list[dict[str, int]]] = []
        taken_at: list[int] = []  # events before each frame
        uses: Uses = {}
        for number, (row, ids) in enumerate(rows):
            while len(taken_at) < len(ticks) and self.later(row, ticks[len(taken_at)]):
                taken_at.append(number)
                self.frames.append([dict(block) for block in self.state])
            self.happen(row, ids, number, uses)
        while len(taken_at) < len(ticks):
            taken_at.append(len(rows))
            self.frames.append([dict(block) for block in self.state])
        for frame, number in zip(self.frames, taken_at, strict=True):
            for block, cell in enumerate(frame):
                after = [use for use in uses.get(block, []) if use[0] >= number]
                cell["next"] = after[0][1] if after and after[0][2] else -1

    def later(self, row: np.void, tick: int) -> bool:
        until = math.inf if tick == _LAST_TICK else self.start_ms + tick * self.tick_ms
        return bool(row["time_ms"] > until)

    def happen(self, row: np.void, ids: list[int], number: int, uses: Uses) -> None:
        exact = (float(row["time_ms"]) - self.start_ms) * (1 / self.tick_ms)
        tick, use = int(exact), min(math.ceil(exact), _LAST_TICK)
        tick = min(tick, _LAST_TICK)
        event = int(row["event"])
        if event == schema.RESET:
            ids = [block for block, cell in enumerate(self.state) if cell["key"] != -1]
        for place, block in enumerate(ids):
            cell = self.state[block]
            if event == schema.TOUCHED:
                uses.setdefault(block, []).append((number, use, True))
                if cell["refs"] == 0:
                    cell["since"] = tick
                cell |= {"owner": int(row["request"]), "refs": int(row["ref_count"])}
            elif event == schema.ALLOCATED:
                uses.setdefault(block, []).append((number, use, False))
                cell |= {"owner": int(row["request"]), "refs": 1, "since": tick}
            elif event == schema.CACHED:
                if cell["refs"] == 0:
                    cell["since"] = tick
                cell["key"] = int(row["key"]) + place * int(row["key_stride"])
            elif event in (schema.EVICTED, schema.RESET):
                uses.setdefault(block, []).append((number, use, False))
                cell["key"] = -1
                if cell["refs"] == 0:
                    cell |= {"owner": -1, "since": tick}
            elif event == schema.FREED:
                cell["refs"] = int(row["ref_count"])
                if cell["refs"] == 0:
                    cell["since"] = tick
                    if cell["key"] == -1:
                        cell["owner"] = -1


def listed(chunk: Chunk) -> list[list[int]]:
    return [
        chunk.ids[row["blocks_at"] : row["blocks_at"] + row["count"]].tolist()
        if row["blocks_at"] >= 0
        else []
        for row in chunk.rows
    ]


def compare(stream: Stream, frames: BlockFrames) -> None:
    model = Model(list(stream.resolved()), stream.header, frames.ticks)
    shown = list(frames.frames())
    assert len(shown) == len(model.frames) == len(frames)
    for frame, cells in zip(shown, model.frames, strict=True):
        assert frame.owner.tolist() == [cell["owner"] for cell in cells]
        assert frame.ref_count.tolist() == [cell["refs"] for cell in cells]
        keys = [cell["key"] if frames.has_keys else min(cell["key"], 0) for cell in cells]
        assert frame.key.tolist() == keys
        if frames.has_times:
            ticks = np.rint((frame.since_s - frames.start_s) / frames.tick_s).astype(int).tolist()
            assert ticks == [cell["since"] for cell in cells]
            uses = np.rint((frame.next_use_s - frames.start_s) / frames.tick_s)
            assert np.nan_to_num(uses, nan=-1).astype(int).tolist() == [c["next"] for c in cells]
        states = [
            USED if cell["refs"] > 0 else EVICTABLE if cell["key"] != -1 else EMPTY
            for cell in cells
        ]
        if stream.header.has_null:
            states[0] = USED
        assert frame.state.tolist() == states


def taken(stream: Stream, **options: Any) -> BlockFrames:
    frames = take_frames(stream.header, stream.resolved, **options)
    assert frames is not None
    return frames


@settings(max_examples=60, deadline=None)
@given(stream=streams(), most_frames=st.integers(1, 9))
def test_frames_equal_a_slow_model(stream: Stream, most_frames: int) -> None:
    frames = taken(stream, most_frames=most_frames)
    assert not frames.thinned
    compare(stream, frames)


@settings(max_examples=15, deadline=None)
@given(stream=streams(hybrid=True))
def test_groups_with_windows_too(stream: Stream) -> None:
    compare(stream, taken(stream, most_frames=6))


@settings(max_examples=20, deadline=None)
@given(stream=streams(), most_bytes=st.integers(1, 400))
def test_frames_within_a_budget_are_fewer_but_right(stream: Stream, most_bytes: int) -> None:
    """GIVEN little room WHEN frames are taken THEN what is left out is said, the rest is right."""
    frames = taken(stream, most_frames=30, most_bytes=most_bytes)
    fewer = len(frames) < 30 or not frames.has_keys or not frames.has_times
    assert fewer == bool(frames.thinned) or len(frames) == 1
    compare(stream, frames)


@settings(max_examples=20, deadline=None)
@given(stream=streams())
def test_keys_may_be_any_numbers(stream: Stream) -> None:
    """GIVEN keys that are hashes, as a live server's are WHEN packed THEN they come back whole."""

    least = np.iinfo(np.int64).min

    def wide() -> list[Chunk]:
        chunks = [chunk.copy() for chunk in stream.resolved()]
        for chunk in chunks:
            keyed = np.isin(chunk.rows["event"], (schema.CACHED, schema.EVICTED))
            keys = chunk.rows["key"][keyed]
            chunk.rows["key"][keyed] = np.where(keys % 2 == 0, keys + least, -1 - (keys + least))
            chunk.rows["key_stride"][keyed] = 0
        return chunks

    header = msgspec.structs.replace(stream.header, num_keys=0)
    frames = take_frames(header, wide, most_frames=5)
    assert frames is not None
    model = Model(wide(), header, frames.ticks)
    for frame, cells in zip(frames.frames(), model.frames, strict=True):
        assert frame.key.tolist() == [cell["key"] for cell in cells]


def small_header(**changes: int) -> Header:
    stream = record(generate("conversation", seed=5, num_requests=2), EngineConfig(num_blocks=500))
    return msgspec.structs.replace(stream.header, **changes)


def test_what_is_left_at_the_end() -> None:
    """GIVEN a run to its end WHEN the last frame is taken THEN nobody owns or waits for a block."""
    workload = generate("conversation", seed=5, num_requests=40)
    stream = record(workload, EngineConfig(num_blocks=4000), DriveConfig(arrivals="timed"))
    frames = taken(stream, most_frames=16)
    shown = list(frames.frames())
    assert shown[-1].ref_count.sum() == 0
    assert np.isnan(shown[-1].next_use_s).all()
    assert (shown[-1].state == EVICTABLE).any()
    some = shown[8]
    waits = some.next_use_s[some.state == EVICTABLE]
    assert (waits[~np.isnan(waits)] > some.time_s - frames.tick_s).all()
    compare(stream, frames)


def test_nothing_happened() -> None:
    frames = take_frames(small_header(), list)
    assert frames is not None
    (only,) = frames.frames()
    assert (only.state[1:] == EMPTY).all()
    assert only.state[0] == USED  # the null block


def test_a_pool_too_large_for_a_page_has_no_frames() -> None:
    assert take_frames(small_header(num_blocks=1 << 24), list) is None


@pytest.mark.parametrize("names", [("a", "b"), ("x" * 500_000,)])
def test_names_are_kept_while_they_are_short(names: tuple[str, ...]) -> None:
    frames = take_frames(small_header(), list, names=names)
    assert frames is not None
    assert bool(frames.names) != bool(frames.thinned)


def by_hand(*events: dict[str, Any]) -> Stream:
    """Return a resolved stream of the given rows; `ids` are their blocks."""
    rows = np.zeros(len(events), schema.EVENT)
    ids: list[int] = []
    for column in schema.COLUMNS:
        rows[column.name] = column.absent
    rows["blocks_at"] = -1
    for row, event in zip(rows, events, strict=True):
        blocks = event.pop("ids", [])
        if blocks:
            row["blocks_at"], row["count"] = len(ids), len(blocks)
            ids += blocks
        for name, value in event.items():
            row[name] = value
    stream = record(generate("conversation", seed=5, num_requests=3), EngineConfig(num_blocks=500))
    header = msgspec.structs.replace(stream.header, num_blocks=6, num_keys=100)
    chunk = Chunk(rows, np.array(ids, np.int32))
    return ByHand(header, (chunk,), stream.replay)


class ByHand(Stream):
    """A stream that is resolved already."""

    def resolved(self) -> Any:
        yield from (chunk.copy() for chunk in self.raw)


def test_a_life_by_hand() -> None:
    """GIVEN two blocks, a hit, a move and a reset WHEN framed THEN each moment shows just that."""
    stream = by_hand(
        {"event": schema.ALLOCATED, "time_ms": 0.0, "request": 0, "ref_count": 1, "ids": [3, 4]},
        {"event": schema.CACHED, "time_ms": 0.0, "request": 0, "key": 7, "key_stride": 1,
         "ids": [3, 4]},
        {"event": schema.FREED, "time_ms": 990.0, "request": 0, "ref_count": 0, "ids": [4, 3]},
        {"event": schema.TOUCHED, "time_ms": 2500.0, "request": 1, "ref_count": 1, "ids": [3]},
        {"event": schema.MOVED, "time_ms": 2990.0, "to_block": 5, "ids": [3]},
        {"event": schema.RESET, "time_ms": 4000.0},
    )  # fmt: skip
    # Moments at 0, 1, 2, 3 and 4 s, less a tick.
    frames = taken(stream, most_frames=5)
    assert [round(frame.time_s, 2) for frame in frames.frames()] == [0, 1, 2, 3, 4]
    states = [frame.state[1:].tolist() for frame in frames.frames()]
    assert states == [
        [EMPTY, EMPTY, USED, USED, EMPTY],
        [EMPTY, EMPTY, EVICTABLE, EVICTABLE, EMPTY],
        [EMPTY, EMPTY, EVICTABLE, EVICTABLE, EMPTY],
        [EMPTY, EMPTY, EMPTY, EVICTABLE, USED],
        [EMPTY, EMPTY, EMPTY, EMPTY, USED],
    ]
    first, second, third, fourth, fifth = frames.frames()
    assert first.key[3:].tolist() == [7, 8, -1]
    for frame in (first, second, third):
        assert frame.next_use_s[3] == pytest.approx(2.5, abs=frames.tick_s)
        assert np.isnan(frame.next_use_s[4])
    assert third.since_s[3] == pytest.approx(0.99, abs=frames.tick_s)
    assert third.owner[3:].tolist() == [0, 0, -1]
    assert fourth.owner[3:].tolist() == [-1, 0, 1]
    assert fourth.key[3:].tolist() == [-1, 8, 7]
    assert fifth.key[3:].tolist() == [-1, -1, -1]
    assert fifth.ref_count[3:].tolist() == [0, 0, 1]
