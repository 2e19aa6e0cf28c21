"""Moving the time of a finished recording, for everybody who watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import Engines, Served, played, record, served, wait_for

from kvatlas.watch.moment import Moment
from kvatlas.watch.source import EngineFeed

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("controls") / "run.arrows")


@pytest.fixture
def site(recording: Path) -> Iterator[Served]:
    with served(Engines(played(recording, speed=1.0))) as running:
        wait_for(running.hub.newest_key)
        yield running


def shown(site: Served) -> Moment:
    import msgspec

    return msgspec.json.decode(site.ask("/api/moment").body, type=Moment)


def test_pause_and_play(site: Served) -> None:
    assert site.steer(do="pause").status == 204
    at = shown(site).time_s
    assert shown(site).time_s == at
    playback = shown(site).playback
    assert playback is not None and playback.paused
    assert site.steer(do="play").status == 204
    wait_for(lambda: shown(site).time_s > at)


def test_seek_there_and_back(site: Served) -> None:
    """GIVEN a recording WHEN its time is moved on and back THEN the pool is that moment's."""
    site.steer(do="pause")
    playback = shown(site).playback
    assert playback is not None
    middle_s = (playback.first_s + playback.last_s) / 2
    site.steer(do="seek", to=middle_s)
    there = wait_for(lambda: shown(site) if shown(site).time_s > 0.9 * middle_s else None)
    site.steer(do="seek", to=playback.last_s)
    wait_for(lambda: shown(site).step > there.step)
    site.steer(do="seek", to=middle_s)
    back = wait_for(lambda: shown(site) if shown(site).step == there.step else None)
    assert (back.pool, back.prefix, back.requests) == (there.pool, there.prefix, there.requests)
    assert back.generation > there.generation


def test_one_step(site: Served) -> None:
    site.steer(do="pause")
    before = shown(site).step
    site.steer(do="step")
    assert wait_for(lambda: shown(site).step - before) == 1


def test_speed(site: Served) -> None:
    assert site.steer(do="speed", to=50).status == 204
    playback = shown(site).playback
    assert playback is not None and playback.speed == 50


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{", 400), (b"[]", 400), (b'{"engine": "e0"}', 400),
    (b'{"engine": "e0", "do": "delete"}', 400), (b'{"engine": 0, "do": "pause"}', 400),
    (b'{"engine": "e0", "do": "speed", "to": -1}', 400),
    (b'{"engine": "e0", "do": "speed", "to": 1e300}', 400),
    (b'{"engine": "e0", "do": "seek", "to": "1"}', 400), (b'{"engine": "e7", "do": "pause"}', 409),
    (b'{"engine": "e0", "do": "seek", "to": NaN}', 400), (b"x" * 100_000, 413), (b"\xff\xfe", 400),
])  # fmt: skip
def test_what_is_no_command_does_nothing(site: Served, body: bytes, status: int) -> None:
    assert site.ask("/api/control", JSON, method="POST", body=body).status == status
    playback = shown(site).playback
    assert playback is not None
    assert (playback.paused, playback.speed) == (False, 1.0)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_page_is_no_command(site: Served, kind: str) -> None:
    body = b'{"engine": "e0", "do": "pause"}'
    answer = site.ask("/api/control", {"content-type": kind}, method="POST", body=body)
    assert answer.status == 415


def test_a_server_that_runs_cannot_be_steered(recording: Path) -> None:
    class Running:
        """A feed that only has what every feed has."""

        def __init__(self) -> None:
            feed = played(recording)
            self.label, self.names, self.generation = "running", feed.names, feed.generation
            self.header, self.poll, self.health = feed.header, feed.poll, feed.health
            self.memory, self.started_unix_s = feed.memory, feed.started_unix_s

    feed: EngineFeed = Running()
    with served(Engines(feed)) as site:
        wait_for(site.hub.newest_key)
        assert site.steer(do="pause").status == 409
        assert shown(site).playback is None
