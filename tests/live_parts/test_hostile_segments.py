"""What somebody may put in a segment's place, and files that ask for memory or time."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from live_fixtures import files_of, write

from kvatlas.errors import InputError
from kvatlas.events import open_recording
from kvatlas.events.live import call_reader, decode
from kvatlas.events.live.call_reader import Calls
from kvatlas.events.live.follow import Follower
from kvatlas.events.live.word_records import MOST_UNIT_RECORDS
from kvatlas.wire import layout
from kvatlas.wire.segment_log import HEAD_BYTES, MAGIC

_SEGMENT = "000000.kvseg"


def in_time(call: Callable[[], object], seconds: float = 20.0) -> BaseException | None:
    """Return what a call raised; fail when it does not come back."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert raised, "it hangs"
    return raised[0]


def read_all(folder: Path) -> int:
    """Read every event of a recording."""
    return sum(len(chunk.rows) for chunk in open_recording(str(folder)).resolved())


def segment(words: bytes, committed: int | None = None) -> bytes:
    """Return a segment of these words."""
    count = len(words) // 4 if committed is None else committed
    return MAGIC + struct.pack("<7q", layout.FORMAT_VERSION, count, 0, 0, 0, 0, 0) + words


def record(code: int, *words: int) -> bytes:
    """Return a record's words."""
    return struct.pack(f"<{1 + len(words)}i", code | (1 + len(words)) << 8, *words)


CHECKPOINT = (
    record(layout.CHECKPOINT, 0, 0, 0, 0, 0) + record(layout.CHECKPOINT_ENDED, 13, 0)
)  # fmt: skip


@pytest.mark.parametrize("name", [_SEGMENT, "header.json"])
@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "zeros"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, what: str) -> None:
    write(files_of("full"), tmp_path)
    path = tmp_path / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to("/dev/zero")
    for call in (lambda: read_all(tmp_path), lambda: Follower(tmp_path).poll()):
        assert isinstance(in_time(call), InputError | None)


def test_a_segment_that_is_a_hole_is_refused_at_once(tmp_path: Path) -> None:
    write(files_of("full"), tmp_path)
    with (tmp_path / _SEGMENT).open("wb") as file:
        file.write(segment(b"", committed=25 << 30))
        file.truncate(100 << 30)
    assert isinstance(in_time(lambda: read_all(tmp_path)), InputError)


@pytest.mark.parametrize(
    "unit",
    [layout.STEP_BEGAN, layout.OUTPUTS_BEGAN, layout.CHECKPOINT],
    ids=layout.NAMES.__getitem__,
)
def test_a_call_that_never_ends_does_not_fill_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int
) -> None:
    # GIVEN small records inside a call of the scheduler, more than any call has
    most = 20_000
    assert MOST_UNIT_RECORDS < 1 << 21
    for reader in (decode, call_reader):
        monkeypatch.setattr(reader, "MOST_UNIT_RECORDS", most)
    files = files_of("full")
    files[_SEGMENT] = segment(
        CHECKPOINT + record(unit, 0, 0, 0, 0, 0) + record(layout.POPPED, 0) * (most + 1000)
    )
    write(files, tmp_path)
    # WHEN it is read THEN it is given up where what is kept in memory would grow without a bound
    assert "never ends" in str(in_time(lambda: read_all(tmp_path), 120))
    if unit != layout.CHECKPOINT:  # which the reader of calls passes over
        assert "never ends" in str(in_time(lambda: sum(1 for _ in Calls(tmp_path)), 120))


def test_many_small_checkpoints_take_no_more_time_than_their_words(tmp_path: Path) -> None:
    files = files_of("full")
    files[_SEGMENT] = segment((CHECKPOINT + record(layout.GAP, 0, 0)) * 20_000)
    write(files, tmp_path)
    assert isinstance(in_time(lambda: read_all(tmp_path)), InputError | None)


def test_a_segment_that_shrinks_while_it_is_followed_ends_the_reading(tmp_path: Path) -> None:
    files = files_of("full")
    follower = Follower(write(files, tmp_path))
    follower.poll(300)
    for size in (HEAD_BYTES + 400, HEAD_BYTES, 10, 0):
        os.truncate(tmp_path / _SEGMENT, size)
        assert isinstance(in_time(lambda: follower.poll(300)), InputError | None)
    (tmp_path / _SEGMENT).unlink()
    assert in_time(lambda: follower.poll(300)) is None
