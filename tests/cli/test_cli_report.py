"""`kvatlas report`: every output at once, bad paths before the work, Ctrl-C."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from command import kvatlas, process

from kvatlas.events import open_recording
from kvatlas.measure import Figures
from kvatlas.report.reporter import FragmentationReporter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a small replay under pressure, and keep its own report beside it."""
    path = tmp_path_factory.mktemp("run") / "run.parquet"
    sizes = ("--limit", 80, "--blocks", 500)
    done = kvatlas(
        "replay", *sizes, "--arrivals", "timed", "--events", path,
        "--json", path.with_suffix(".json"),
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    return path


def test_every_output_at_once(run: Path, tmp_path: Path) -> None:
    out, page, trace = tmp_path / "r.json", tmp_path / "r.html", tmp_path / "r.json.gz"
    tables, columns = tmp_path / "csv", tmp_path / "parquet"
    done = kvatlas(
        "report", run, "--no-what-if", "--json", out, "--html", page, "--csv", tables,
        "--parquet", columns, "--perfetto", trace,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.out.index("Verdict") < done.out.index("Over time") < done.out.index("Fragmentation")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    said = json.loads(out.read_bytes())
    assert said["schema"] == 1
    assert said["partial"] is False
    for key in ("measurements", "unavailable", "findings", "tables", "histograms", "series"):
        assert key in said
    assert set(said["unavailable"]) == {
        name for name, value in said["measurements"].items() if value is None
    }
    assert page.read_bytes().startswith(b"<!doctype html>")
    with (tables / "figures.csv").open(encoding="utf-8") as file:
        figures = {row["name"]: row["value"] for row in csv.DictReader(file)}
    assert set(figures) == set(said["measurements"])
    assert {path.stem for path in tables.iterdir()} == {path.stem for path in columns.iterdir()}
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sum(event["ph"] == "b" and event["name"] == "request" for event in events) == 80
    # Nothing half-written is left.
    assert not list(tmp_path.rglob(".*"))


def test_agrees_with_the_replay_that_was_recorded(run: Path) -> None:
    replayed = json.loads(run.with_suffix(".json").read_bytes())["measurements"]
    reported = kvatlas("report", run, "--no-what-if", "--json", "-").json["measurements"]
    shared = {
        name for name, value in replayed.items()
        if value is not None and reported.get(name) is not None
    }  # fmt: skip
    assert "prefix.token_hit_rate" in shared
    for name in shared:
        # The recorded decisions round usages to four digits.
        assert reported[name] == pytest.approx(replayed[name], rel=1e-6, abs=6e-5), name


def test_json_on_standard_output_is_nothing_else(run: Path) -> None:
    done = kvatlas("report", run, "--no-what-if", "--json", "-")
    assert done.json["schema"] == 1


@pytest.mark.parametrize("flag", ["--json", "--html", "--perfetto", "--csv", "--parquet"])
def test_an_output_that_cannot_be_written_is_told_before_the_work(
    flag: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvatlas.events.open_recording", None)  # no work may begin
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    folder = flag in ("--csv", "--parquet")
    for path in ("", tmp_path / "no" / "out", file if folder else tmp_path):
        done = kvatlas("report", run, flag, path)
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert flag in done.err


def test_reports_do_not_overwrite_each_other_or_the_recording(run: Path, tmp_path: Path) -> None:
    content = run.read_bytes()
    assert "--json: would overwrite" in kvatlas("report", run, "--json", run).err
    assert run.read_bytes() == content
    both = tmp_path / "both"
    assert "two reports in one file" in kvatlas("report", run, "--json", both, "--html", both).err
    assert "--perfetto: not for a terminal" in kvatlas("report", run, "--perfetto", "-").err
    assert "--html: not for a terminal" in kvatlas("report", run, "--html", "-").err
    assert not both.exists()
    table = tmp_path / "series.parquet"
    table.write_bytes(content)
    assert "would overwrite the recording" in kvatlas("report", table, "--parquet", tmp_path).err
    assert table.read_bytes() == content


def test_ctrl_c_leaves_nothing_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.cli.run_analysis.analyse", interrupted)
    done = kvatlas("report", run, "--json", tmp_path / "out.json")
    assert (done.code, done.out, done.err) == (130, "", "kvatlas: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_recording_says_so(tmp_path: Path) -> None:
    stream = tmp_path / "run.arrows"
    assert kvatlas("replay", "--limit", 80, "--blocks", 500, "--events", stream).code == 0
    cut = tmp_path / "cut.arrows"
    cut.write_bytes(stream.read_bytes()[:-5000])
    done = kvatlas("report", cut, "--no-what-if")
    assert done.code == 0, done.err
    assert done.out.lstrip().startswith("PARTIAL: ")


def test_the_reporter_of_the_library_gives_the_same(run: Path, tmp_path: Path) -> None:
    from kvatlas.cli.run_analysis import analyse

    recording = open_recording(str(run))
    reporter = FragmentationReporter(analyse(recording, what_if=False), recording)
    assert isinstance(reporter.document.figures, Figures)
    assert json.loads(reporter.json())["schema"] == 1
    reporter.perfetto(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_bytes())["traceEvents"]
    assert reporter.csv(tmp_path / "csv")
    assert reporter.parquet(tmp_path / "parquet")
    with pytest.raises(ValueError, match="needs the recording"):
        FragmentationReporter(reporter.document).perfetto(tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_a_terminal_without_utf_8_gets_something_similar(run: Path) -> None:
    started = process(
        ["report", run, "--no-what-if"], env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    out, err = started.communicate(timeout=120)
    assert (started.returncode, err) == (0, "")
    assert out.isascii()
    assert "?" not in out


def test_a_closed_pipe_is_quiet(run: Path) -> None:
    started = process(["report", run, "--no-what-if"])
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.wait(timeout=120) in (0, 1)
    assert started.stderr.read() == ""
    started.stderr.close()


@pytest.mark.variants
def test_a_run_with_a_host_tier_says_what_its_events_do_not(tmp_path: Path) -> None:
    path = tmp_path / "tiered.parquet"
    done = kvatlas(
        "replay", "--limit", 80, "--blocks", 500, "--host-blocks", 200, "--events", path,
        "--json", tmp_path / "replay.json", "--html", tmp_path / "replay.html",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "a prefix cache alone, no host tier" in (tmp_path / "replay.html").read_text()
    out = tmp_path / "report.json"
    done = kvatlas("report", path, "--no-what-if", "--json", out)
    said, replay = json.loads(out.read_bytes()), json.loads((tmp_path / "replay.json").read_bytes())
    names = {name for name in replay["measurements"] if name.startswith(("tier.", "pressure."))}
    assert names <= set(said["unavailable"])
    assert "only a replay counts" in said["unavailable"]["tier.usage"]
    assert "LRU of the device alone would hit" in " ".join(kvatlas("report", path).out.split())
