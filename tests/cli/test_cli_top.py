"""`kvatlas top` from the shell: in a terminal of its own, without one, and asked wrongly."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import kvatlas

PATIENCE_S = 240.0  # kernels may have to be compiled, on a busy machine


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a small replay under pressure."""
    path = tmp_path_factory.mktemp("top") / "run.arrows"
    done = kvatlas(
        "replay", "--limit", 60, "--blocks", 400, "--arrivals", "timed", "--events", path
    )
    assert (done.code, done.err) == (0, "")
    return path


class Terminal:
    """A terminal with a process in it."""

    def __init__(self, process: subprocess.Popen[bytes], main: int, inner: int) -> None:
        self.process, self._main, self._inner = process, main, inner
        self.before = termios.tcgetattr(inner)
        self.out = b""

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._main, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until the process wrote `text`, escape sequences aside."""
        end_s = time.monotonic() + PATIENCE_S
        while text not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.out.decode(errors="replace")):
            assert time.monotonic() < end_s, f"{text!r} never came: {self.out[-2000:]!r}"
            if select.select([self._main], [], [], 0.1)[0]:
                self.out += os.read(self._main, 1 << 16)

    def end(self) -> int:
        """Wait for the process, reading on; return its exit code."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end_s
            if select.select([self._main], [], [], 0.05)[0]:
                self.out += os.read(self._main, 1 << 16)
        while select.select([self._main], [], [], 0.05)[0]:
            self.out += os.read(self._main, 1 << 16)
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Say whether echo, line editing and the screen are as they were found."""
        left = self.out.rfind(b"\x1b[?1049l") > self.out.rfind(b"\x1b[?1049h")
        return left and termios.tcgetattr(self._inner) == self.before


@contextmanager
def terminal(*args: object, columns: int = 80, lines: int = 24, **env: str) -> Iterator[Terminal]:
    """Start `kvatlas` in a terminal of this size."""
    main, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kvatlas.cli", *map(str, args)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", **env},
    )
    try:
        yield Terminal(process, main, inner)
    finally:
        process.kill()
        process.wait()
        os.close(main)
        os.close(inner)


@pytest.mark.parametrize(
    "how", ["q", *(pytest.param(how, marks=pytest.mark.slow) for how in ("\x03", "SIGTERM"))]
)
def test_it_leaves_the_terminal_as_it_was(run: Path, how: str) -> None:
    with terminal("top", run, "--interval", 0.1) as shown:
        shown.wait_for("Block map")
        assert b"\x1b[?1049h" in shown.out
        if how == "SIGTERM":
            shown.process.send_signal(signal.SIGTERM)
        else:
            shown.press(how)
        assert shown.end() == 0
        assert shown.is_as_before()
        assert b"Traceback" not in shown.out


@pytest.mark.slow
def test_it_waits_for_a_server(tmp_path: Path) -> None:
    with terminal("top", tmp_path, "--interval", 0.1) as shown:
        shown.wait_for("no engine records yet")
        shown.press("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_without_colours_nothing_is_coloured(run: Path) -> None:
    with terminal("top", run, "--interval", 0.1, NO_COLOR="1") as shown:
        shown.wait_for("Block map")
        shown.press("q")
        assert shown.end() == 0
        # Of the 16 colours; grey levels are left.
        assert not re.search(rb"\x1b\[(?:\d+;)*3[1-6](?:;\d+)*m", shown.out)


def test_one_screen_without_a_terminal(run: Path) -> None:
    done = kvatlas("top", run, "--once")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.out
    assert "ended" in lines[0]
    assert "60 arrived, 60 finished" in done.out
    plain = kvatlas("top", run, "--once", "--ascii")
    assert plain.out.isascii()
    assert "60 arrived, 60 finished" in plain.out


def test_bad_input(run: Path, tmp_path: Path) -> None:
    for args, said in (
        ((run,), "not a terminal"),
        ((tmp_path / "none.arrows", "--once"), "no such recording"),
        ((tmp_path, "--once"), "no engine records yet"),
        ((tmp_path / "later", "--once"), "no such folder yet"),
        ((tmp_path, "--once", "--speed", 1), "no recording of an engine"),
        ((__file__, "--once"), "not a recording"),
        ((run, "--once", "--speed", -1), "--speed"),
        ((run, "--once", "--speed", "nan"), "--speed"),
        ((run, "--once", "--interval", 0), "--interval"),
        ((run, "--once", "--interval", "inf"), "--interval"),
    ):
        done = kvatlas("top", *args)
        assert done.code == 2
        assert done.out == ""
        assert said in done.err
        assert len(done.err.splitlines()) == 1


def test_a_damaged_recording_shows_what_there_is(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.arrows"
    cut.write_bytes(run.read_bytes()[:-3000])
    done = kvatlas("top", cut, "--once")
    assert (done.code, done.err) == (0, "")
    assert "CUT OFF" in done.out
