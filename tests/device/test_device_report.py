"""`kvatlas device report`: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from html_checker import checked
from naive_allocator import write
from snapshot_files import damaged, with_stacks

from kvatlas.cli.__main__ import run
from kvatlas.cli.device_report_run import MOST_EVENTS, event_range
from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.errors import InputError
from kvatlas.report import DeviceReporter

_SEED = 24  # private pools, memory given back, out of memory


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(with_stacks(_SEED, 120), tmp_path_factory.mktemp("course") / "course.pickle")


def kvatlas(*args: object) -> tuple[int, str, str]:
    """Run a command in this process; its exit code and what it printed."""
    out, err = io.BytesIO(), io.BytesIO()
    with (
        contextlib.redirect_stdout(io.TextIOWrapper(out, "utf-8", write_through=True)),
        contextlib.redirect_stderr(io.TextIOWrapper(err, "utf-8", write_through=True)),
    ):
        code = run(["device", "report", *(str(arg) for arg in args)])
        return code, out.getvalue().decode(), err.getvalue().decode()


def test_all_views_at_once(snapshot: Path, tmp_path: Path) -> None:
    """GIVEN a course that ran out of memory WHEN reported THEN all files tell the same."""
    paths = {
        name: tmp_path / name
        for name in ("html", "speedscope", "collapsed", "collapsed-stuck", "json")
    }
    asked = [word for name, path in paths.items() for word in (f"--{name}", path)]
    code, out, err = kvatlas(snapshot, *asked)
    assert (code, err) == (0, "")
    said = json.loads(paths["json"].read_bytes())
    twin = DeviceTwin(read_snapshot(snapshot))
    timeline = twin.replay_recorded().timeline
    assert said["identical"]
    assert said["events"] == len(twin.trace)
    assert said["peaks"]["stuck"]["bytes"] == timeline.stuck_bytes.max()
    (failure,) = said["failures"]
    moment = said["moment"]
    assert moment["event"] == failure["event"] == len(twin.trace) - 1
    assert moment["stuck_bytes"] == timeline.stuck_bytes[-1] > 0
    held = sum(one["held_bytes"] for one in said["holders"])
    assert held == moment["allocated_bytes"] + moment["waiting_bytes"]
    assert sum(one["stuck_bytes"] for one in said["holders"]) == moment["stuck_bytes"]
    profiles = json.loads(paths["speedscope"].read_bytes())["profiles"]
    assert [one["endValue"] for one in profiles] == [held, moment["stuck_bytes"]]
    for name, total in (("collapsed", held), ("collapsed-stuck", moment["stuck_bytes"])):
        lines = paths[name].read_text("utf-8").splitlines()
        assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == total
    page, found = checked(paths["html"].read_bytes())
    assert found.loaded == found.handlers == []
    assert "Content-Security-Policy" in page
    for word in ("Out of memory once", "private memory pools", "Who pins what is stuck"):
        assert word in found.said
    for word in ("Out of memory once", "not verified on recordings", "every address, segment"):
        assert word in " ".join(out.split())


def test_a_range_and_a_moment(snapshot: Path, tmp_path: Path) -> None:
    """GIVEN a range WHEN reported THEN the moment is one of it, and facts are of all."""
    code, out, _ = kvatlas(
        snapshot, "--events", "20:60", "--json", "-", "--html", tmp_path / "a.html"
    )
    said = json.loads(out)
    assert code == 0
    assert said["shown"] == {"first": 20, "end": 60}
    assert 20 <= said["moment"]["event"] < 60
    assert said["events"] > 60
    code, out, _ = kvatlas(snapshot, "--at", "33", "--json", "-")
    assert json.loads(out)["moment"]["event"] == 33
    code, out, _ = kvatlas(snapshot, "--at", "reserved", "--json", "-")
    said = json.loads(out)
    assert said["moment"]["event"] == said["peaks"]["reserved"]["event"]


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("--events", "5"), "--events"),
        (("--events", "a:b"), "--events"),
        (("--events", "900:"), "--events"),
        (("--at", "soon"), "--at"),
        (("--at", "9999"), "--at"),
        (("--at", "oom", "--events", ":10"), "--at"),
        (("--at", 5000 * "1"), "--at"),
        (("--device", "3"), "--device"),
        (("--html", "-"), "--html"),
        (("--html", "same", "--json", "same"), ""),
        (("--collapsed", "no/such/folder/x"), "--collapsed"),
    ],
)
def test_bad_input_is_one_line(
    snapshot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    field: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = kvatlas(snapshot, *args)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert field in err
    assert not list(tmp_path.iterdir())


def test_ranges() -> None:
    assert event_range(None, 50) == range(50)
    assert event_range(None, MOST_EVENTS + 7) == range(7, MOST_EVENTS + 7)
    assert event_range("-10:", 50) == range(40, 50)
    assert event_range(" :7", 50) == range(7)
    with pytest.raises(InputError, match="more than a page shows"):
        event_range("0:", MOST_EVENTS + 1)


def test_the_snapshot_is_never_overwritten(snapshot: Path) -> None:
    before = snapshot.read_bytes()
    code, _, err = kvatlas(snapshot, "--html", snapshot)
    assert (code, snapshot.read_bytes()) == (2, before)
    assert "overwrite" in err


def test_damaged_snapshots_are_refused_or_shown(tmp_path: Path) -> None:
    """GIVEN snapshots with something wrong WHEN shown THEN in one piece, or refused in one line."""
    shown = 0
    path = tmp_path / "damaged.pickle"
    for seed in range(70):
        path.write_bytes(damaged(seed))
        try:
            reporter = DeviceReporter(DeviceTwin(read_snapshot(path)), path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            continue
        checked(reporter.html())
        held = [int(line.rsplit(b" ", 1)[1]) for line in reporter.collapsed().splitlines()]
        assert min(held, default=1) > 0
        shown += 1
    assert 5 < shown < 65


def test_ctrl_c_writes_nothing(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.report.device_pack.device_data", interrupted)
    code, out, err = kvatlas(snapshot, "--html", tmp_path / "a.html", "--json", tmp_path / "a.json")
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert not list(tmp_path.iterdir())


def test_reading_says_how_far_it_is(snapshot: Path) -> None:
    heard: list[int] = []
    read_snapshot(snapshot, on_read=heard.append)
    assert heard[-1] == snapshot.stat().st_size
    assert heard == sorted(heard)
