"""What a page is sent, when, and that nobody can make the server hoard or wait."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from web_server import Engines, Served, played, record, served, wait_for

from kvatlas.events import Chunk, open_recording
from kvatlas.watch.board import Board
from kvatlas.watch.moment import Health, History
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.web import stream as stream_module
from kvatlas.watch.web.hub import Hub
from kvatlas.watch.web.stream import MOST_VIEWERS, history_since


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("stream") / "run.arrows")


class Restless(FileFeed):
    """A played recording that looks alive for ever: every tick there is another moment."""

    def health(self) -> Health:
        """Return that it lives."""
        return Health(state="live", age_s=time.monotonic())

    def playback(self) -> Any:
        """Return another place each time."""
        return msgspec.structs.replace(super().playback(), position_s=time.monotonic())


def restless(path: Path, label: str | None = None) -> Restless:
    return Restless(open_recording(str(path)), 0.0, label)


def test_a_moment_is_what_the_board_says(recording: Path) -> None:
    """GIVEN a recording at its end WHEN streamed THEN every figure is the board's."""
    board = Board(played(recording))
    while board.advance():
        pass
    known = msgspec.to_builtins(board.moment(cells=4096))
    with served(Engines(played(recording))) as site, site.stream() as events:
        assert events.next("engines")["engines"][0]["key"] == "e0"
        shown: Any = None
        while shown is None or shown["health"]["state"] != "ended":
            shown = events.next("moment")
        assert shown.pop("whole") in (True, False)
        assert site.ask("/api/moment").json == known
        for name in set(known) - {"history", "playback"}:
            assert shown[name] == known[name], name


def test_the_course_comes_whole_once_and_then_its_end(recording: Path) -> None:
    """GIVEN a recording that plays WHEN its parts are put together THEN they are the course."""
    feed = played(recording, speed=40.0)
    with served(Engines(feed)) as site, site.stream() as events:
        history: dict[str, list[float]] = {}
        wholes = 0
        for name, data in events:
            if name != "moment":
                continue
            wholes += data["whole"]
            part = data["history"]
            assert len(part["start_s"]) <= 20 or data["whole"]
            if data["whole"]:
                history = part
            elif part["start_s"]:
                keep = [at for at, s in enumerate(history["start_s"]) if s < part["start_s"][0]]
                history = {key: history[key][: len(keep)] + part[key] for key in history}
            if data["health"]["state"] == "ended":
                break
        assert history == site.ask("/api/moment").json["history"]
        assert wholes == 1 + (len(history["start_s"]) > 5000)


def test_intervals_since() -> None:
    names = History.__struct_fields__
    history = msgspec.convert({name: [1.0, 2.0, 3.0] for name in names}, History)
    assert history_since(history, 2.0).end_s == [3.0]
    assert history_since(history, 0.0) == history
    assert history_since(history, 3.0).start_s == []


def test_two_viewers_see_the_same(recording: Path) -> None:
    engines = Engines(played(recording))
    with served(engines) as site, site.stream() as one, site.stream("?engine=e0") as two:
        last: list[dict[str, Any]] = [{}, {}]
        for number, events in enumerate((one, two)):
            while last[number].get("health", {}).get("state") != "ended":
                last[number] = events.next("moment")
        for shown in last:
            del shown["whole"], shown["history"]
        assert last[0] == last[1]


@contextmanager
def asleep(site: Served) -> Iterator[socket.socket]:
    """Ask for the stream and do not read it."""
    with socket.socket() as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer.connect(("127.0.0.1", site.port))
        request = f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n"
        viewer.sendall(request.encode())
        yield viewer


def times_in(data: bytes) -> list[float]:
    """Return the time of each moment in a piece of a stream."""
    return [float(found) for found in re.findall(rb'"time_s":([\d.e+]+)', data)]


def test_a_viewer_who_does_not_read_skips(recording: Path) -> None:
    """GIVEN one who sleeps while others watch WHEN it wakes up THEN it is soon at the newest."""
    with (
        served(Engines(restless(recording)), interval_s=0.01) as site,
        asleep(site) as viewer,
        site.stream() as awake,
    ):
        for _ in range(150):
            newest = awake.next("moment")["time_s"]
        viewer.settimeout(10)
        held = b""
        while max(times_in(held), default=0.0) < newest:
            data = viewer.recv(1 << 16)
            assert data
            held += data
        assert 0 < len(times_in(held)) < 75


def test_a_viewer_who_never_reads_is_let_go(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(stream_module, "MOST_VIEWERS", 1)
    with served(Engines(restless(recording)), interval_s=0.005) as site, asleep(site):
        wait_for(lambda: _status(site) == 503, "for the only place to be taken")
        wait_for(lambda: _status(site) == 200, "for the place to be free again")


def _status(site: Served) -> int:
    with site.stream() as events:
        return int(events.status)


def test_there_are_only_so_many_viewers(recording: Path) -> None:
    with served(Engines(played(recording))) as site:
        with ExitStack() as streams:
            for _ in range(MOST_VIEWERS):
                events = streams.enter_context(site.stream())
                assert events.status == 200
                events.next("engines")
            assert _status(site) == 503
            assert site.ask("/metrics").status == 200
        wait_for(lambda: _status(site) == 200)


def test_engines_come_and_go_while_somebody_looks(recording: Path) -> None:
    """GIVEN nobody WHEN a server starts, and again THEN the page shows the newest that runs."""
    engines = Engines()
    with served(engines) as site, site.stream() as events:
        nobody = events.next("engines")
        while nobody["waiting"] == "reading":
            nobody = events.next("engines")
        assert (nobody["engines"], nobody["shown"], nobody["waiting"]) == (
            [],
            None,
            "no engine yet",
        )
        assert site.ask("/api/moment").status == 404
        assert site.ask("/metrics").body == b""
        engines.feeds.append(played(recording, label="first"))
        assert events.next("moment")["engine"] == "first"
        for _ in range(20):  # it was shown for long
            assert site.steer(do="pause").status == 204
        while events.next("moment")["playback"]["paused"] is False:
            pass
        engines.feeds.append(restless(recording, "second"))
        shown = events.next("moment")
        while shown["engine"] != "second":
            shown = events.next("moment")
        assert shown["whole"]
        listed = site.ask("/metrics").text
        assert 'engine="first"' in listed and 'engine="second"' in listed
        del engines.feeds[1]
        while events.next("engines")["shown"] != "e0":
            pass


def test_an_unknown_engine_is_the_newest_one(recording: Path) -> None:
    with served(Engines(played(recording))) as site:
        for key in ("e99", "../e0", "%00", "x" * 4000):
            with site.stream(f"?engine={key}") as events:
                assert events.next("moment")["engine"] == "run.arrows"
            assert site.ask(f"/api/moment?engine={key}").status == 404


class Broken(FileFeed):
    """Fails in a way that nobody thought of."""

    def poll(self, budget_events: int) -> list[Chunk]:
        """Fail."""
        raise ZeroDivisionError("out of the blue")


def test_one_engine_that_fails_does_not_stop_the_others(recording: Path) -> None:
    broken = Broken(open_recording(str(recording)), 0.0, "broken")
    with served(Engines(broken, played(recording))) as site:
        with site.stream() as events:
            assert events.next("moment")["engine"] == "run.arrows"
        with site.stream("?engine=e0") as events:
            listed = events.next("engines")
            while not listed["engines"][0]["trouble"]:
                listed = events.next("engines")
            assert "out of the blue" in listed["engines"][0]["trouble"]
        assert 'engine="run.arrows"' in site.ask("/metrics").text


def test_the_end_of_the_server_ends_its_streams(recording: Path) -> None:
    engines = Engines(restless(recording))
    with served(engines) as site, site.stream() as events:
        events.next("moment")
        began = time.monotonic()
        site.hub.close()
        assert sum(1 for _ in events) < 50
        assert time.monotonic() - began < 5
    assert engines.closed


def test_paused_time_makes_no_moments(recording: Path) -> None:
    """GIVEN a recording that stands still WHEN ticks go by THEN nothing is made or sent."""

    async def numbers() -> list[int]:
        feed = played(recording)
        feed.pause()
        hub = Hub(Engines(feed), interval_s=0.01)
        await hub.start()
        seen = []
        while (key := hub.newest_key()) is None:
            await asyncio.sleep(0.01)
        newest = await hub.newer(key, 0, 5.0)
        assert newest is not None
        seen.append(newest[0])
        assert await hub.newer(key, newest[0], 0.5) is None
        await hub.stop()
        return seen

    assert len(asyncio.run(numbers())) == 1
