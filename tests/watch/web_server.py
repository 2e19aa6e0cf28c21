"""A server on a free port in a thread, plain requests to it, and engines that a test makes up."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import EventWriter, open_recording
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.source import EngineFeed
from kvatlas.watch.web.app import make_app
from kvatlas.watch.web.gate import Pass
from kvatlas.watch.web.hub import Hub
from kvatlas.watch.web.server import bind, make_server
from kvatlas.workload import generate

EVIL = "</script><img src=x onerror=window.evil=1>"
"""A request's id that a careless page would run."""
PATIENCE_S = 30.0


def record(path: Path, *, requests: int = 60, blocks: int = 300) -> Path:
    """Write the recording of a small replay under pressure; every third request has an evil id."""
    config = EngineConfig(num_blocks=blocks, max_num_seqs=16, max_num_batched_tokens=1024)
    workload = generate("conversation", seed=5, num_requests=requests)
    names = [EVIL if row % 3 == 0 else f"chat-{row}" for row in range(workload.num_requests)]
    writers: list[EventWriter] = []
    replay = Replay(
        workload,
        config,
        DriveConfig(arrivals="timed"),
        on_events=lambda chunk: writers[0].append(chunk),
    )
    header = recording_header(replay, version="test", engine="vLLM 0.32")
    writers.append(EventWriter(str(path), header, names=names))
    replay.run()
    writers[0].close()
    return path


class Engines:
    """A watch whose engines come and go as a test likes."""

    def __init__(self, *feeds: EngineFeed) -> None:
        self.feeds = list(feeds)
        self.closed = False

    def engines(self) -> list[EngineFeed]:
        """Return those that are there."""
        return list(self.feeds)

    def waiting_for(self) -> str:
        """Say what is missing."""
        return "" if self.feeds else "no engine yet"

    def close(self) -> None:
        """Note it."""
        self.closed = True


def played(path: Path, speed: float = 0.0, label: str | None = None) -> FileFeed:
    """Return a recording that is played."""
    return FileFeed(open_recording(str(path)), speed, label)


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Served:
    """A server that runs."""

    def __init__(self, port: int, hub: Hub) -> None:
        self.port, self.hub = port, hub

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
        host: str | None = None,
    ) -> Answer:
        """Send a request exactly as it is written here."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host if host is not None else f"127.0.0.1:{self.port}")
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())
        finally:
            connection.close()

    def steer(self, **command: Any) -> Answer:
        """Send a command."""
        return self.ask(
            "/api/control",
            {"content-type": "application/json"},
            method="POST",
            body=json.dumps({"engine": "e0", **command}).encode(),
        )

    @contextmanager
    def stream(self, query: str = "") -> Iterator[Events]:
        """Listen to the stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/api/stream" + query)
        answer = connection.getresponse()
        try:
            yield Events(answer)
        finally:
            connection.close()


class Events:
    """The events of a stream, one after the other."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self._answer = answer

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name = ""
        while line := self._answer.readline():
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                yield name, json.loads(value)

    def next(self, wanted: str) -> Any:
        """Return the data of the next event of a name."""
        return next(data for name, data in self if name == wanted)


@contextmanager
def served(
    watch: Engines, *, token: str | None = None, interval_s: float = 0.05, port: int = 0
) -> Iterator[Served]:
    """Serve what `watch` has."""
    with bind("127.0.0.1", port) as listening:
        port = listening.getsockname()[1]
        hub = Hub(watch, interval_s=interval_s)
        app = make_app(hub, None if token is None else Pass(token, port))
        server = make_server(app, hub)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until = time.monotonic() + PATIENCE_S
            while not server.started:
                assert time.monotonic() < until and thread.is_alive()
                time.sleep(0.01)
            yield Served(port, hub)
        finally:
            hub.close()
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def wait_for(condition: Callable[[], Any], what: str = "") -> Any:
    """Return what `condition` gives once that is true."""
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, f"waited in vain {what}"
        time.sleep(0.02)
    return found
