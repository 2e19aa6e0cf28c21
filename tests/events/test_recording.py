"""Recordings on disk: what is written is read again; cut, damaged, foreign and newer files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles_events import EXAMPLES
from streams import Stream, record, small_workload, streams

from kvatlas.engine import EngineConfig
from kvatlas.errors import InputError
from kvatlas.events import (
    COLUMNS,
    Chunk,
    EventWriter,
    PoolState,
    open_recording,
    snapshot_at,
    snapshot_of,
)
from kvatlas.events.recording import CUT_OFF, INTERRUPTED
from kvatlas.events.writer import HEADER_KEY

_SUFFIXES = ("parquet", "arrows")


def small_stream() -> Stream:
    config = EngineConfig(
        num_blocks=60, block_size=4, max_num_seqs=4, max_num_batched_tokens=32, max_model_len=128
    )
    return record(small_workload(5), config, max_steps=9)


def written(stream: Stream, path: Path, **close: bool) -> Path:
    names = [f"<request {row}>" for row in range(stream.header.num_requests)]
    writer = EventWriter(str(path), stream.header, names=names)
    for chunk in stream.raw:
        writer.append(chunk)
    writer.close(**close)
    return path


def rows_of(chunks: list[Chunk]) -> np.ndarray:
    rows = np.concatenate([chunk.rows for chunk in chunks])
    return rows[[column.name for column in COLUMNS]]


def ids_of(chunks: list[Chunk]) -> list[list[int]]:
    return [
        chunk.ids[row["blocks_at"] :][: row["count"]].tolist()
        for chunk in chunks
        for row in chunk.rows
        if row["blocks_at"] >= 0
    ]


@pytest.mark.parametrize("suffix", _SUFFIXES)
@settings(max_examples=EXAMPLES)
@given(stream=streams(hybrid=True))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, stream: Stream
) -> None:
    """GIVEN any replay WHEN recorded and read THEN header, rows, ids and names are the same."""
    path = written(stream, tmp_path_factory.mktemp("run") / f"run.{suffix}")
    recording = open_recording(str(path))
    chunks = list(recording.chunks())
    assert recording.header == stream.header
    assert recording.partial == ""
    assert np.array_equal(rows_of(chunks)[:-1], rows_of(list(stream.raw)))
    assert ids_of(chunks) == ids_of(list(stream.raw))
    assert recording.names[0] == "<request 0>"
    assert recording.events == len(stream.rows()) + 1


def test_other_tools_read_the_columns(tmp_path: Path) -> None:
    """GIVEN a Parquet recording WHEN read as a plain table THEN nulls and names are as said."""
    stream = small_stream()
    table = pq.read_table(written(stream, tmp_path / "run.parquet"))
    assert table.schema.names == [*(column.name for column in COLUMNS), "blocks", "name"]
    rows = table.to_pylist()
    allocated = [row for row in rows if row["event"] == "allocated"]
    assert allocated
    assert all(len(row["blocks"]) == row["count"] and row["running"] is None for row in allocated)
    steps = [row for row in rows if row["event"] == "step"]
    assert all(row["blocks"] is None and row["request"] is None for row in steps)
    assert sum(row["count"] for row in steps) == stream.replay.steps
    assert [row["event"] for row in rows[-1:]] == ["ended"]


def test_batches_may_be_cut_anywhere(tmp_path: Path) -> None:
    """GIVEN a table rewritten in row groups of one WHEN read THEN evictions find their blocks."""
    path = written(small_stream(), tmp_path / "run.parquet")
    table = pq.read_table(path)
    again = tmp_path / "again.parquet"
    pq.write_table(table, again, row_group_size=1)
    first, second = (PoolState(open_recording(str(p)).header) for p in (path, again))
    for state, name in ((first, path), (second, again)):
        for chunk in open_recording(str(name)).chunks():
            state.advance(chunk)
    assert snapshot_of(first) == snapshot_of(second)


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    path = written(small_stream(), tmp_path / "run.parquet", interrupted=True)
    recording = open_recording(str(path))
    assert list(recording.chunks())
    assert recording.partial == INTERRUPTED


def test_a_cut_stream_gives_everything_up_to_the_cut(tmp_path: Path) -> None:
    """GIVEN a stream WHEN cut at any byte THEN whole batches are read, marked partial."""
    stream = small_stream()
    whole = written(stream, tmp_path / "run.arrows").read_bytes()
    all_rows = stream.rows()["event"].tolist()
    cut = tmp_path / "cut.arrows"
    seen = set()
    for size in range(len(whole) // 3, len(whole) - 1, 97):
        cut.write_bytes(whole[:size])
        try:
            recording = open_recording(str(cut))
        except InputError as error:
            assert "\n" not in str(error)
            continue
        events = [event for chunk in recording.chunks() for event in chunk.rows["event"].tolist()]
        complete = len(events) == len(all_rows) + 1
        assert events[: len(all_rows)] == all_rows[: len(events)]
        assert recording.partial == ("" if complete else CUT_OFF)
        seen.add(len(events))
    assert len(seen) > 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_parquet_file_is_refused(tmp_path: Path, share: float) -> None:
    data = written(small_stream(), tmp_path / "run.parquet").read_bytes()
    path = tmp_path / "cut.parquet"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"cut off|empty file"):
        open_recording(str(path))


@cache
def undamaged(path: Path) -> bytes:
    """Write the small stream once; return what lies in its file."""
    return written(small_stream(), path).read_bytes()


@settings(max_examples=4 * EXAMPLES)
@given(seed=st.integers(0, 10**6), suffix=st.sampled_from(_SUFFIXES))
def test_damage_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
) -> None:
    """GIVEN a recording with bytes changed WHEN read THEN it is read, or refused in one line."""
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(undamaged(folder / f"undamaged.{suffix}"))
    rng = np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 5))):
        data[int(rng.integers(4, len(data) - 4))] = int(rng.integers(0, 256))
    path = folder / f"bad.{suffix}"
    path.write_bytes(bytes(data))
    try:
        recording = open_recording(str(path))
        state = PoolState(recording.header, str(path))
        for chunk in recording.chunks():
            state.advance(chunk)
    except InputError as error:
        assert "\n" not in str(error)


def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    text = tmp_path / "text.parquet"
    text.write_text("hello, world")
    for path, said in (
        (foreign, "not a recording of kvatlas"),
        (text, "neither Parquet nor an Arrow stream"),
        (tmp_path, "no recording of an engine in this folder"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(InputError, match=said):
            open_recording(str(path))


def test_a_newer_schema_is_said(tmp_path: Path) -> None:
    path = written(small_stream(), tmp_path / "run.parquet")
    table = pq.read_table(path)
    header = msgspec.json.decode(table.schema.metadata[HEADER_KEY])
    for changes, said in (
        ({"schema": 99, "surprise": 1}, "a newer kvatlas"),
        ({"num_blocks": 1 << 40}, "num_blocks"),
        ({"max_num_seqs": 1 << 20, "max_table_blocks": 1 << 20}, "max_num_seqs"),
        ({"groups": []}, "groups"),
        ({"num_requests": "many"}, "header is damaged"),
    ):
        changed = table.replace_schema_metadata(
            {HEADER_KEY: msgspec.json.encode({**header, **changes})}
        )
        pq.write_table(changed, tmp_path / "changed.parquet")
        with pytest.raises(InputError, match=said):
            open_recording(str(tmp_path / "changed.parquet"))


def test_a_missing_column_is_said(tmp_path: Path) -> None:
    table = pq.read_table(written(small_stream(), tmp_path / "run.parquet"))
    pq.write_table(table.drop_columns(["key"]), tmp_path / "less.parquet")
    with pytest.raises(InputError, match="key: this column is missing"):
        list(open_recording(str(tmp_path / "less.parquet")).chunks())


def test_a_snapshot_is_taken_at_an_event_or_a_time(tmp_path: Path) -> None:
    stream = small_stream()
    recording = open_recording(str(written(stream, tmp_path / "run.parquet")))
    assert snapshot_at(recording, event=0).states().max() == 2  # the null block
    half = len(stream.rows()) // 2
    state = PoolState(stream.header)
    for chunk in stream.raw:
        state.advance(chunk, min(len(chunk.rows), half - state.events))
    assert snapshot_at(recording, event=half) == snapshot_of(state)
    last = snapshot_at(recording)
    assert last == snapshot_at(recording, time_s=1e9)
    with pytest.raises(InputError, match="no such event"):
        snapshot_at(recording, event=10**9)
    assert type(last).from_bytes(last.to_bytes()) == last


def test_a_file_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a disk that fails at the end WHEN closed THEN one line says so, nothing lies around."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        written(small_stream(), tmp_path / "run.parquet")
    assert list(tmp_path.iterdir()) == []
