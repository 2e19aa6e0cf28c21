"""`kvatlas serve`: flags, tokens, what is printed, and how it ends."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import kvatlas, process, replayed

_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "run.arrows"
    replayed("--limit", 40, "--blocks", 400, "--events", path)
    return path


class Running:
    """A server in a process of its own."""

    def __init__(self, started: subprocess.Popen[str]) -> None:
        self.process = started
        self.said = ""
        assert started.stderr is not None
        while "metrics " not in self.said:
            line = started.stderr.readline()
            assert line, self.said
            self.said += line
        found = re.search(r"page +(http://(\S+):(\d+)/\S*)", self.said)
        assert found is not None, self.said
        self.page, self.host, self.port = found[1], found[2], int(found[3])

    def ask(self, path: str, **headers: str) -> tuple[int, str]:
        """Send a request; it may be up already, or about to be."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
            try:
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (ConnectionError, http.client.HTTPException):
                assert time.monotonic() < until
                time.sleep(0.05)
            finally:
                connection.close()

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what else was said."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=_PATIENCE_S)
        return self.process.returncode, err


@contextmanager
def serving(*args: object, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start a server on a free port; it is gone afterwards."""
    started = process(["serve", *args, "--port", 0, "--no-open"], env=env)
    try:
        yield Running(started)
    finally:
        started.kill()
        started.communicate()


def test_a_page_metrics_and_a_clean_end(recording: Path) -> None:
    """GIVEN a recording WHEN served and Ctrl-C is pressed THEN all answers, and it ends with 0."""
    with serving(recording, "--speed", 0) as running:
        assert running.host == "127.0.0.1" and "token" not in running.said
        assert running.ask("/")[0] == 200
        status, moment = running.ask("/api/moment")
        assert (status, json.loads(moment)["engine"]) == (200, "run.arrows")
        assert "kvatlas_pool_usage_ratio" in running.ask("/metrics")[1]
        assert running.interrupt() == (0, "")


@pytest.mark.slow
def test_it_ends_while_somebody_watches(recording: Path) -> None:
    with serving(recording) as running:
        running.ask("/")
        with socket.create_connection(("127.0.0.1", running.port), 10) as viewer:
            viewer.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert viewer.recv(4096)
            began = time.monotonic()
            assert running.interrupt() == (0, "")
            assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    with serving(tmp_path / "later") as running:
        assert running.ask("/")[0] == 200
        status, said = running.ask("/api/moment")
        assert status == 404 and ("no such folder yet" in said or "reading" in said)
        assert running.interrupt()[0] == 0


@pytest.mark.slow
def test_bound_elsewhere_a_token_is_made(recording: Path) -> None:
    """GIVEN an address that others reach WHEN no token is given THEN one is made and printed."""
    with serving(recording, "--host", "0.0.0.0") as running:
        token = re.search(r"\?token=(\S+)", running.page)
        assert token is not None and len(token[1]) >= 40
        assert running.ask("/metrics")[0] == 401
        assert running.ask("/metrics", Authorization=f"Bearer {token[1]}")[0] == 200
        running.process.kill()
    with serving(recording, "--host", "0.0.0.0") as running:
        assert token[1] not in running.said


@pytest.mark.slow
def test_a_token_from_the_environment_is_not_printed(recording: Path) -> None:
    secret = "a-secret-from-the-environment"
    with serving(recording, env={"KVATLAS_TOKEN": secret}) as running:
        assert secret not in running.said
        assert running.ask("/")[0] == 401
        assert running.ask("/", Authorization=f"Bearer {secret}")[0] == 200
        assert secret not in running.interrupt()[1]


@pytest.mark.parametrize(("args", "said"), [
    ((), "nothing to watch"),
    (("no-such.parquet",), "no-such.parquet"),
    (("{run}", "--port", 99999), "--port"),
    (("{run}", "--port", -1), "--port"),
    (("{run}", "--speed", -1), "--speed"),
    (("{run}", "--speed", "nan"), "--speed"),
    (("{run}", "--token", ""), "--token"),
    (("{run}", "--token", "with space"), "--token"),
    (("{run}", "--token", "line\nbreak"), "--token"),
    (("{run}", "--host", "0.0.0.0", "--token", "short"), "shorter than 16"),
    (("{run}", "--host", "203.0.113.7", "--token", "long-enough-to-be-one"), "cannot listen"),
    (("{run}", "--host", "no.such.host.invalid", "--token", "long-enough-to-be-one"), "cannot"),
    (("{run}", "--otlp", "127.0.0.1:4318"), "--otlp"),
    (("{trace}",), "not a recording"),
])  # fmt: skip
def test_mistakes_are_one_line(
    args: tuple[object, ...], said: str, recording: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("{}\n")
    given = [str(arg).format(run=recording, trace=trace) for arg in args]
    done = kvatlas("serve", *given, "--no-open")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("kvatlas: ") and done.err.count("\n") == 1
    assert said in done.err


def test_a_port_that_is_taken(recording: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = kvatlas("serve", recording, "--port", port, "--no-open")
    assert done.code == 2
    assert "cannot listen there" in done.err and "choose another --port" in done.err


def test_the_dashboard_is_written(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.json"
    assert kvatlas("serve", "--grafana", path).code == 0
    assert json.loads(path.read_text())["uid"] == "kvatlas"
    assert kvatlas("serve", "--grafana", "-").json == json.loads(path.read_text())
    done = kvatlas("serve", "--grafana", tmp_path / "no" / "such")
    assert done.code == 2 and "--grafana" in done.err


def test_without_the_extra_it_says_what_to_install(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *more: None if name == "uvicorn" else found(name, *more)
    )
    done = kvatlas("serve", recording, "--no-open")
    assert done.code == 2
    assert "uvicorn" in done.err and "kvatlas[live]" in done.err
