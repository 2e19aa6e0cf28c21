"""Files and streams: whole or not at all, and quiet when nobody listens any more."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command import hashed_trace, kvatlas, process

from kvatlas.report.whole_files import write_parts

SMALL = ("replay", "--limit", "20")


def test_json_html_and_terminal_at_once(tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    done = kvatlas(*SMALL, "--json", out, "--html", page)
    assert (done.code, done.err) == (0, "")
    assert "Token hit rate" in done.out
    assert json.loads(out.read_bytes())["decisions"]["finished"] == 20
    html = page.read_text(encoding="utf-8")
    assert "<svg" in html
    assert len(html) < 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out.json"]


def test_a_page_does_not_change_what_is_decided(tmp_path: Path) -> None:
    plain, with_page = tmp_path / "a.json", tmp_path / "b.json"
    args = ("replay", "--blocks", "4000", "--checksum")
    assert kvatlas(*args, "--json", plain).code == 0
    assert kvatlas(*args, "--json", with_page, "--html", tmp_path / "p.html").code == 0
    first, second = (json.loads(path.read_bytes()) for path in (plain, with_page))
    assert first["decisions"] == second["decisions"]
    known = {name: value for name, value in first["measurements"].items() if value is not None}
    assert known.items() <= second["measurements"].items()
    assert len(second["measurements"]) > len(first["measurements"])


def test_json_on_standard_output_is_nothing_else() -> None:
    done = kvatlas(*SMALL, "--json", "-")
    assert done.json["schema"] == 1


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_a_path_that_cannot_be_written_is_told_before_the_work(flag: str, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, f"{flag}: not a file's path"),
        (tmp_path / "no" / "out", f"{flag}: no such directory"),
        ("", f"{flag}: not a file's path"),
    ):
        done = kvatlas("replay", "nosuch.jsonl", flag, path)
        assert done.code == 2
        assert said in done.err


def test_a_report_never_takes_the_place_of_its_trace(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    content = trace.read_bytes()
    done = kvatlas("replay", trace, "--json", trace)
    assert done.code == 2
    assert "--json: would overwrite the trace" in done.err
    assert trace.read_bytes() == content
    both = tmp_path / "both"
    assert "two outputs in one file" in kvatlas("replay", "--json", both, "--html", both).err


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an old report WHEN the disk is full in the middle of the new one
    target = tmp_path / "out.json"
    target.write_text("old", encoding="utf-8")

    def full(source: Path, destination: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = kvatlas(*SMALL, "--json", target)
    # THEN the old one is there, nothing lies around, and one line says why
    assert done.code == 2
    assert f"{target}: --json: cannot be written: No space left on device" in done.err
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_links_stay_links_and_devices_devices(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    write_parts(link, [b"{}"])
    assert link.is_symlink()
    assert real.read_bytes() == b"{}"
    write_parts(Path(os.devnull), [b"{}"])
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("args", [("replay", "--limit", "5"), ("traces", "list", "--json", "-")])
def test_a_closed_pipe_is_quiet(args: tuple[str, ...]) -> None:
    # GIVEN a reader that is gone before anything is written
    started = process(args)
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.wait(timeout=120) in (0, 1)
    assert started.stderr.read() == ""
    started.stderr.close()


def test_a_terminal_without_utf_8_gets_something_similar() -> None:
    started = process(
        ["replay", "--limit", "5"], env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    out, err = started.communicate(timeout=120)
    assert (started.returncode, err) == (0, "")
    assert out.isascii()
    assert "5 requests - 20,000 blocks" in out
    assert "?" not in out
