"""Ctrl-C: the report of what is done, marked PARTIAL; exit code 130."""

from __future__ import annotations

import inspect
import json
import signal
import sys
from pathlib import Path

import pytest
from command import kvatlas, process

from kvatlas.cli.interrupts import Interrupts

# Says on standard error that the replay is under way, and waits there for the signal.
_TELL = """
import sys, time
from kvatlas.cli import progress, replay_run
def update(self, *_):
    print("under way", file=sys.stderr, flush=True)
    time.sleep(0.2)
progress.ProgressLine.update = update
replay_run._SLICE_STEPS = 50
"""


def test_sigint_reports_what_is_done(tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    started = process(["replay", "--json", out], code=_TELL)
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    started.send_signal(signal.SIGINT)
    report, _ = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "PARTIAL: interrupted after" in report
    assert "Traceback" not in report
    document = json.loads(out.read_bytes())
    assert document["partial"] is True
    assert document["decisions"]["requests"] == 2000
    assert document["decisions"]["finished"] < 2000
    assert 0 < document["decisions"]["steps"] < 4286
    assert not page.exists()


def test_a_second_sigint_does_not_wait() -> None:
    hang = _TELL.replace("time.sleep(0.2)", "time.sleep(60)")
    started = process(["replay"], code=hang)
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    # The first one only leaves a note; the second one ends the wait.
    started.send_signal(signal.SIGINT)
    with pytest.raises(Exception, match="timed out"):
        started.wait(timeout=0.5)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "Traceback" not in err


def test_interrupted_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.cli.trace_source.generate", interrupted)
    done = kvatlas("replay")
    assert done.code == 130
    assert done.out == ""
    assert done.err == "kvatlas: interrupted before there was anything to report\n"


def test_while_compiling_it_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """GIVEN the compiler at work WHEN interrupted THEN a terminal is told of a second one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    names = {"__name__": "numba.core.compiler", "currentframe": inspect.currentframe}
    for compiling in (False, True):
        frame = eval("currentframe()", names) if compiling else inspect.currentframe()
        interrupts = Interrupts()
        interrupts._interrupt(signal.SIGINT, frame)
        assert interrupts.wanted
        assert ("Ctrl-C once more" in capsys.readouterr().err) is compiling
        with pytest.raises(KeyboardInterrupt):
            interrupts._interrupt(signal.SIGINT, frame)
