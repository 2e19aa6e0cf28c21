"""Reading a monitor's samples: while they are written, after a rotation, and whatever is there."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.events.live.memory import MemoryFollower, MemorySample, read_memory

GOOD: dict[str, Any] = {"t_ms": 1.0, "wall_s": 2.0, "rss_bytes": 3}


def line(**fields: object) -> bytes:
    """Return a sample as a line."""
    return json.dumps(GOOD | fields).encode() + b"\n"


def times(samples: list[MemorySample]) -> list[float]:
    """Return when samples were taken."""
    return [sample.t_ms for sample in samples]


def test_a_folder_without_samples_has_none(tmp_path: Path) -> None:
    assert read_memory(tmp_path / "nowhere") == []
    assert read_memory(tmp_path) == []
    (tmp_path / "memory.jsonl").mkdir()
    os.mkfifo(tmp_path / "memory.older.jsonl")
    assert read_memory(tmp_path) == []


def test_a_line_that_is_not_whole_waits(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    follower = MemoryFollower(tmp_path)
    file.write_bytes(line(t_ms=1) + line(t_ms=2)[:-9])
    assert times(follower.poll()) == [1]
    assert follower.poll() == []
    file.write_bytes(line(t_ms=1) + line(t_ms=2) + line(t_ms=3))
    assert times(follower.poll()) == [2, 3]
    assert follower.skipped == 0


def test_rotation_loses_and_repeats_nothing(tmp_path: Path) -> None:
    file, older = tmp_path / "memory.jsonl", tmp_path / "memory.older.jsonl"
    follower = MemoryFollower(tmp_path)
    file.write_bytes(line(t_ms=1))
    assert times(follower.poll()) == [1]
    with file.open("ab") as grows:
        grows.write(line(t_ms=2))
    file.replace(older)
    # Between the two steps of a rotation there is no newer file.
    assert times(follower.poll()) == [2]
    assert follower.poll() == []
    file.write_bytes(line(t_ms=3))
    assert times(follower.poll()) == [3]
    # Rotated twice between two looks: what was dropped is gone, the rest comes in order.
    for second in (4, 5):
        file.replace(older)
        file.write_bytes(line(t_ms=second))
    assert times(follower.poll()) == [4, 5]
    assert times(read_memory(tmp_path)) == [4, 5]
    file.write_bytes(b"")
    assert follower.poll() == []


def test_reasons_hold_until_they_change(tmp_path: Path) -> None:
    (tmp_path / "memory.jsonl").write_bytes(
        line(torch="not loaded", nvml="no driver")
        + line()
        + line(torch=[{"device": 0, "allocated_bytes": 5, "novel": [1]}])
        + line()
        + line(nvml="\x1b[31mno\ndriver\x07" + "x" * 1000)
    )
    samples = read_memory(tmp_path)
    assert [sample.torch_reason for sample in samples] == ["not loaded"] * 2 + [""] * 3
    assert [len(sample.torch) for sample in samples] == [0, 0, 1, 0, 0]
    assert [sample.nvml_reason for sample in samples[:4]] == ["no driver"] * 4
    assert samples[4].nvml_reason.startswith("?[31mno?driver?xxx")
    assert len(samples[4].nvml_reason) == 200


@pytest.mark.parametrize(
    "hostile",
    [
        b"\n \n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b'{"t_ms":1,"wall_s":2,"torch":"\xff"}\n',
        b'{"t_ms":1,"wall_s":2,"nvml":[{"device":0,"name":"\xc3"}]}\n',
        b"{" * 50_000 + b"\n",
        b'{"t_ms":' + b"[" * 50_000 + b"\n",
        b'{"t_ms":1,"wall_s":2,"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
        line(t_ms=1e300),
        b'{"t_ms":1e999,"wall_s":1}\n',
        b'{"t_ms":NaN,"wall_s":1}\n',
        b'{"t_ms":1}\n',
        line(rss_bytes=-1),
        line(rss_bytes=1 << 80),
        line(rss_bytes="3"),
        line(rss_bytes=[3]),
        line(gc={"gen": [1] * 9, "pauses": 1, "pause_ms_total": 1, "pause_ms_max": 1}),
        line(gc={"gen": [1]}),
        line(torch=[{"device": 0}] * 65),
        line(torch=[{"device": -1}]),
        line(nvml=[{"device": 0, "busy_share": 97}]),
        line(nvml=[{"device": 0, "name": "x" * 201}]),
        line(padding="x" * (1 << 17)),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_sample_is_passed_over(tmp_path: Path, hostile: bytes) -> None:
    (tmp_path / "memory.jsonl").write_bytes(line(t_ms=1) + hostile + line(t_ms=2))
    follower = MemoryFollower(tmp_path)
    assert times(follower.poll()) == [1, 2]
    assert follower.skipped == (0 if not hostile.strip() else 1)


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(line()[:-1])), max_size=8))
def test_any_bytes_are_read_without_harm(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "memory.jsonl").write_bytes(b"\n".join(pieces) + b"\n")
    whole = [piece for part in pieces for piece in part.split(b"\n") if piece == line()[:-1]]
    assert len(read_memory(folder)) == len(whole)


def test_a_huge_file_costs_no_more_than_its_end(tmp_path: Path) -> None:
    # GIVEN a file of 100 GB, nearly all of it a hole, with a sample at its end
    file = tmp_path / "memory.jsonl"
    with file.open("wb") as out:
        out.truncate(100 << 30)
        out.seek(0, os.SEEK_END)
        out.write(b"\n" + line(t_ms=7))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    follower = MemoryFollower(tmp_path)
    assert times(follower.poll()) == [7]
    assert follower.poll() == []
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 << 10


def test_one_endless_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    follower = MemoryFollower(tmp_path)
    file.write_bytes(b"x" * 200_000)
    assert follower.poll() == []
    with file.open("ab") as out:
        out.write(b"\n" + line(t_ms=5))
    assert times(follower.poll()) == [5]
