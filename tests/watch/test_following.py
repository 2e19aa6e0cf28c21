"""Following engines while they record: growth, restarts, ends of every kind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_folder import RecordingEngine
from played import Clock

from kvatlas.errors import InputError
from kvatlas.events import open_recording
from kvatlas.watch import Board, Playable, open_watch
from kvatlas.watch.following import LiveFeed
from kvatlas.watch.source import EngineFeed


def gone_pid() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def only(feeds: list[EngineFeed]) -> EngineFeed:
    assert len(feeds) == 1
    return feeds[0]


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    watch = open_watch(str(tmp_path / "later"))
    assert watch.engines() == []
    assert "no such folder yet" in watch.waiting_for()
    (tmp_path / "later").mkdir()
    assert watch.engines() == []
    assert "no engine records" in watch.waiting_for()
    RecordingEngine(tmp_path / "later")
    feed = only(watch.engines())
    assert only(watch.engines()) is feed
    assert not isinstance(feed, Playable)


def test_events_come_as_they_are_committed(tmp_path: Path) -> None:
    engine = RecordingEngine(tmp_path)
    board = Board(only(open_watch(str(tmp_path)).engines()))
    assert board.advance() == 0
    assert board.moment().health.state == "live"
    seen = []
    for share in (0.2, 0.4, 0.6, 0.8):
        engine.commit(share)
        while board.advance():
            pass
        moment = board.moment(100)
        assert moment.health.fault == ""
        assert moment.health.lag_events == 0
        assert moment.wall_unix_s is not None
        assert abs(moment.wall_unix_s - time.time()) < 30
        seen.append(moment.events)
    assert seen == sorted(set(seen))
    engine.close()
    while board.advance():
        pass
    moment = board.moment()
    assert moment.health.state == "ended"
    recording = open_recording(str(engine.folder))
    assert moment.events == sum(len(chunk.rows) for chunk in recording.chunks())
    assert moment.requests.arrived == recording.header.num_requests > 0
    names = {request.name for request in moment.top}
    assert names <= set(recording.names.values())


def test_losses_show_though_nothing_new_is_written(tmp_path: Path) -> None:
    engine = RecordingEngine(tmp_path)
    engine.commit(0.5)
    board = Board(only(open_watch(str(tmp_path)).engines()))
    while board.advance():
        pass
    for lost in (1, 500):
        engine.lose(lost)
        assert board.advance() == 0
        assert board.moment().health.lost_events == lost


def test_a_restarted_server_is_a_new_engine(tmp_path: Path) -> None:
    first = RecordingEngine(tmp_path, pid=gone_pid())
    watch = open_watch(str(tmp_path))
    old = only(watch.engines())
    first.commit(0.5)
    RecordingEngine(tmp_path, "async", number=1)
    feeds = watch.engines()
    assert feeds[0] is old
    assert len(feeds) == 2
    assert feeds[1].label > feeds[0].label


def test_states_of_an_engine(tmp_path: Path) -> None:
    clock = Clock()
    running, killed = (
        RecordingEngine(tmp_path / "a"),
        RecordingEngine(tmp_path / "b", pid=gone_pid()),
    )
    for engine, later in ((running, "quiet"), (killed, "cut off")):
        feed = LiveFeed(engine.folder, clock, wall=lambda: 0.0)
        assert feed.health().state == "live"
        clock.now_s += 10
        assert feed.health().state == later
        engine.commit(0.5)
        assert feed.health().state == "live"  # what is not read yet may be anything
        assert feed.health().lag_events >= 0
        while feed.poll(1000):
            pass
        assert feed.health().state == "live"
        assert feed.health().age_s == pytest.approx(0)
        clock.now_s += 10
        assert feed.health().state == later
        assert feed.health().age_s == (pytest.approx(10) if later == "quiet" else None)


def test_a_wall_clock_that_was_set_is_not_believed(tmp_path: Path) -> None:
    engine = RecordingEngine(tmp_path)
    engine.commit(0.5)
    for wall_s, age_s in ((0.0, 0.0), (time.time() + 3600, 3600.0)):
        wall = Clock()
        wall.now_s = wall_s
        feed = LiveFeed(engine.folder, Clock(), wall)
        feed.poll(100_000)
        # Events may be old when they are first read; they are never from tomorrow.
        assert feed.health().age_s == pytest.approx(age_s, abs=60)


def test_an_engine_of_another_machine_is_never_called_gone(tmp_path: Path) -> None:
    engine = RecordingEngine(tmp_path, pid=gone_pid())
    header = engine.folder / "header.json"
    text = header.read_text()
    header.write_text(text.replace('"host": "', '"host": "not-'))
    clock = Clock()
    feed = LiveFeed(engine.folder, clock)
    clock.now_s += 60
    assert feed.health().state == "quiet"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 999}', b'{"schema": 1, "live": 3}', b"\xff\xfe"]
)
def test_a_header_that_is_none_is_waited_for(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "engine-0-20261121T120000-1"
    folder.mkdir()
    (folder / "header.json").write_bytes(content)
    watch = open_watch(str(tmp_path))
    assert watch.engines() == []
    assert str(folder) in watch.waiting_for()
    RecordingEngine(tmp_path, number=5)
    assert len(watch.engines()) == 1


def test_facts_may_be_anything(tmp_path: Path) -> None:
    engine = RecordingEngine(tmp_path)
    header = engine.folder / "header.json"
    text = header.read_text()
    header.write_text(text.replace(f'"pid": {engine.pid}', '"pid": {"a": []}'))
    feed = LiveFeed(engine.folder)
    assert feed.started_unix_s() is not None
    assert feed.memory() == []


def test_a_recorded_folder_can_be_played(tmp_path: Path) -> None:
    for number, fixture in enumerate(("full", "window")):
        RecordingEngine(tmp_path, fixture, number).close()
    feeds = open_watch(str(tmp_path), speed=0.0).engines()
    assert len(feeds) == 2
    for feed in feeds:
        assert isinstance(feed, Playable)
        board = Board(feed)
        while board.advance():
            pass
        assert board.moment().health.state == "ended"
        assert board.moment().requests.arrived > 0


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no recording")
    for path, speed in (
        (str(text), None),
        (str(tmp_path / "later.arrows"), None),
        (str(tmp_path / "later"), 1.0),
        (str(tmp_path), 1.0),
        (str(text), -1.0),
        (str(text), float("nan")),
    ):
        with pytest.raises(InputError):
            open_watch(path, speed)
