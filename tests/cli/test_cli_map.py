"""`kvatlas map`: a moment of a recording, and every way to ask for it wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Done, kvatlas, process


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a small replay."""
    path = tmp_path_factory.mktemp("run") / "run.parquet"
    done = kvatlas(
        "replay", "--limit", 60, "--blocks", 400, "--arrivals", "timed", "--events", path
    )
    assert (done.code, done.err) == (0, "")
    return path


def cells(done: Done) -> str:
    """Return the map without the ids beside it."""
    assert (done.code, done.err) == (0, "")
    lines = done.out.split("\n\n")[1].splitlines()
    return "".join(line.split(maxsplit=1)[1] for line in lines)


def test_the_end_is_the_default(run: Path) -> None:
    done = kvatlas("map", run)
    shown = cells(done)
    assert len(shown) == 400
    # Nothing runs any more, and block 0 is nobody's.
    assert shown[0] == "×"
    assert set(shown[1:]) <= {"▒", "·"}
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "\x1b" not in done.out
    assert "after event" in done.out


def test_moments(run: Path) -> None:
    assert set(cells(kvatlas("map", run, "--event", 0))[1:]) == {"·"}
    early = kvatlas("map", run, "--at", "0.5")
    assert "█" in cells(early)
    assert cells(kvatlas("map", run, "--at", "500ms")) == cells(early)
    assert cells(kvatlas("map", run, "--at", "100%")) == cells(kvatlas("map", run))
    assert "█" in cells(kvatlas("map", run, "--at", "50%"))


def test_ways_to_look(run: Path) -> None:
    at = ("map", run, "--at", "1")
    assert set(cells(kvatlas(*at, "--ascii"))) <= set("x#=.")
    assert kvatlas(*at, "--ascii").out.isascii()
    owners = kvatlas(*at, "--by", "owner")
    assert "A" in cells(owners)
    assert "A  request" in owners.out
    assert "group 0: FullAttentionSpec" in kvatlas(*at, "--by", "group").out
    assert len(cells(kvatlas(*at, "--blocks", "10:20"))) == 10
    assert len(cells(kvatlas(*at, "--blocks", ":20"))) == 20
    narrow = kvatlas(*at, "--width", 40)
    assert all(len(line) <= 40 for line in narrow.out.split("\n\n")[1].splitlines())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--at", "1h"), "--at: outside of the run (got 1h); it goes from 0.0"),
        (("--at", "soon"), "--at: not a moment (got soon); write 90"),
        (("--at", "101%"), "--at: after the end of the run (got 101%)"),
        (("--at", "nan"), "--at: not a moment"),
        (("--event", "99999999"), "--event: outside of the run (got 99999999); it has events 0 to"),
        (("--event", "-1"), "--event: outside of the run (got -1)"),
        (("--event", "1", "--at", "1"), "--at: two moments; use either --at or --event"),
        (("--by", "colour"), "--by: unknown (got colour); use one of state, owner, group"),
        (("--width", "3"), "--width: must be 20 to 1,000 (got 3)"),
        (("--blocks", "9:3"), "--blocks: no such blocks (got 9:3); the pool is 0:400"),
        (("--blocks", "0:401"), "--blocks: no such blocks"),
        (("--blocks", "-5:3"), "--blocks: not a range of blocks (got -5:3); write 0:1000"),
    ],
)
def test_mistakes_are_one_line(run: Path, args: tuple[str, ...], said: str) -> None:
    done = kvatlas("map", run, *args)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert said in done.err


def bad_files(folder: Path, run: Path) -> dict[str, Path]:
    """Write files that are no recordings."""
    content = run.read_bytes()
    files = {
        "empty": b"",
        "foreign": b"hello\n" * 100,
        "cut": content[: len(content) // 2],
        "tiny": b"PAR1",
        "turned": content[:-200] + bytes(192) + content[-8:],
    }
    paths = {"missing": folder / "nosuch", "folder": folder}
    for name, data in files.items():
        paths[name] = folder / name
        paths[name].write_bytes(data)
    return paths


@pytest.mark.parametrize("name", ["missing", "folder", "empty", "foreign", "cut", "tiny", "turned"])
@pytest.mark.parametrize("verb", ["map", "report", "diff"])
def test_what_is_no_recording_is_one_line(run: Path, tmp_path: Path, name: str, verb: str) -> None:
    path = bad_files(tmp_path, run)[name]
    done = kvatlas(verb, *((run, path) if verb == "diff" else (path,)))
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert str(path) in done.err
    assert "Traceback" not in done.err


def test_a_closed_pipe_is_quiet(run: Path) -> None:
    started = process(["map", run])
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.wait(timeout=120) in (0, 1)
    assert started.stderr.read() == ""
    started.stderr.close()


def test_a_terminal_without_utf_8_gets_a_map_of_ascii(run: Path) -> None:
    started = process(
        ["map", run, "--at", "1"], env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    out, err = started.communicate(timeout=120)
    assert (started.returncode, err) == (0, "")
    assert out.isascii()
    assert "#" in out
    assert "?" not in out
