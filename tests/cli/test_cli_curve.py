"""`kvatlas curve`: the contract, the outputs, mistakes in one line, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from command import hashed_trace, kvatlas, process

SMALL = ("curve", "conversation", "--limit", 300)

# Says on standard error that the work is under way, and waits there for the signal.
_TELL = """
import sys, time
from kvatlas.cli import capacity_study
from kvatlas.cli.progress import ProgressLine
def update(self, done, *_):
    if self._what == "{what}":
        print("under way", file=sys.stderr, flush=True)
        time.sleep(0.3)
ProgressLine.update = update
capacity_study._CHUNK = 1
import kvatlas.measure.curves
sys.modules["kvatlas.measure.curves.reuse_runs"]._SLICE_BLOCKS = 50
"""


def curve(*args: object) -> Any:
    done = kvatlas(*SMALL, *args, "--json", "-")
    assert (done.code, done.err) == (0, "")
    return done.json


def test_the_json_is_the_contract() -> None:
    said = curve()
    assert said["schema"] == 1
    assert {
        "config", "workload", "timing", "knee", "bounds", "marks", "advice", "engine", "notes",
        "curve", "ceiling", "queried_blocks", "queried_tokens",
    } <= set(said)  # fmt: skip
    assert said["config"]["block_size"] == 16
    assert said["workload"]["requests"] == 300
    capacities = [row["capacity_blocks"] for row in said["curve"]]
    assert capacities == sorted(set(capacities))
    assert said["knee"]["capacity_blocks"] in capacities
    assert 60 <= len(capacities) <= 66
    last = said["curve"][-1]
    assert last["hit_blocks"] == said["ceiling"]["hit_blocks"]
    for row in said["curve"]:
        assert row["token_hit_rate"] == row["hit_tokens"] / said["queried_tokens"]
        assert row["block_hit_rate"] == row["hit_blocks"] / said["queried_blocks"]
        assert row["block_hit_rate"] <= row["optimum_block_hit_rate"]
    assert said["timing"]["total_s"] > 0
    assert len(said["advice"]) == 5


def test_the_capacities_are_those_that_were_asked_for() -> None:
    said = curve("--capacities", "900,300,900", "--blocks", 500)
    assert [row["capacity_blocks"] for row in said["curve"]] == [300, 900]
    assert said["bounds"]["focus"]["capacity_blocks"] == 500
    few = curve("--points", 5, "--blocks", 500)["curve"]
    assert 500 in [row["capacity_blocks"] for row in few]
    assert len(few) <= 7
    every = curve("--all")
    assert len(every["curve"]) > 66


def test_the_rules_of_counting_change_the_figures(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl", 6)  # 512 tokens shared, 600 each

    def asked(*args: object) -> Any:
        return kvatlas("curve", trace, "--capacities", 400, *args, "--json", "-").json

    whole = asked()
    assert whole["queried_blocks"] == 6 * 37
    assert whole["curve"][0]["hit_blocks"] == 5 * 32
    partial = asked("--count-partial")
    assert partial["queried_blocks"] == 6 * 38
    outputs = asked("--with-outputs")
    assert outputs["distinct_blocks"] >= whole["distinct_blocks"]
    large = asked("--block-size", 512)
    assert large["queried_blocks"] == 6
    assert large["config"]["block_size"] == 512


def test_a_model_gives_bytes_and_tiers() -> None:
    said = curve(
        "--model", "llama-3.1-8b", "--hbm", "1GiB", "--disk", "8GiB", "--prefill-share", 0.5,
        "--target", "20,30%",
    )  # fmt: skip
    assert said["config"]["bytes_per_block"] == 2 << 20
    assert [(mark["name"], mark["capacity_blocks"]) for mark in said["marks"]] == [
        ("HBM", 512), ("HBM + disk", 4608),
    ]  # fmt: skip
    first = said["marks"][0]
    assert first["prefill_speedup"] == pytest.approx(1 / (1 - 0.5 * first["lru"]))
    assert [each["target"] for each in said["advice"]] == [0.2, 0.3]
    assert said["advice"][0]["memory_bytes"] == said["advice"][0]["capacity_blocks"] * (2 << 20)
    half = curve("--model", "llama-3.1-8b", "--kv-dtype", "fp8")
    assert half["config"]["bytes_per_block"] == 1 << 20
    windowed = curve("--model", "gemma-3-12b")
    assert any("every attention layer" in note for note in windowed["notes"])


def test_the_engine_is_replayed_where_it_matters() -> None:
    said = curve("--blocks", 700, "--replays", 2, "--max-num-seqs", 8)
    at = [point["capacity_blocks"] for point in said["engine"]]
    assert sorted(at) == sorted({700, said["knee"]["capacity_blocks"]})
    assert said["engine"][0]["num_blocks"] == said["engine"][0]["capacity_blocks"] + 1
    rate = next(p["token_hit_rate"] for p in said["engine"] if p["capacity_blocks"] == 700)
    assert said["bounds"]["focus"]["token_hit_rate"]["engine"] == rate
    assert len(curve("--replays", 4)["engine"]) == 4


def test_all_views_at_once(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "html")}
    outputs = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = kvatlas(*SMALL, "--blocks", 500, *outputs)
    assert (done.code, done.err) == (0, "")
    assert "Token hit rate over capacity" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 100
    said = json.loads(paths["json"].read_bytes())
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text(encoding="utf-8"))))
    assert [float(row["token_hit_rate"]) for row in rows] == [
        point["token_hit_rate"] for point in said["curve"]
    ]
    html = paths["html"].read_text(encoding="utf-8")
    assert "<svg" in html
    assert said["headline"][0] in html.replace("&#x27;", "'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.html", "out.json"]


def test_csv_on_standard_output_is_nothing_else() -> None:
    done = kvatlas(*SMALL, "--capacities", "100,200", "--csv", "-")
    assert done.out.startswith("capacity_blocks,")
    assert done.out.count("\n") == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("nosuch.jsonl", "nosuch.jsonl: no such file; check the path"),
        ("--capacities 0", "--capacities: not a list of blocks, each at least 1 (got 0); write"),
        ("--capacities 3,x", "--capacities: not a list of blocks, each at least 1 (got x)"),
        ("--capacities 3,,4", "--capacities: a list with nothing in it (got 3,,4)"),
        ("--capacities 9 --all", "--all: two ways to choose the capacities; leave out --cap"),
        ("--points 1", "--points: must be 2 to 100,000 (got 1); --all gives"),
        ("--points 99999999999999999999999", "--points: must be 2 to 100,000"),
        ("--blocks 0", "--blocks: must be 1 to 1,099,511,627,776 (got 0)"),
        ("--block-size auto", "--block-size: only kvatlas replay chooses it"),
        ("--block-size x", "--block-size: must be a whole number of tokens (got x)"),
        ("--block-size 0", "--block-size: must be 1 to 2,147,483,647 (got 0)"),
        ("--block-size 9223372036854775808", "--block-size: must be 1 to 2,147,483,647"),
        ("--block-size 7", "--block-size: blocks must divide 16 tokens or be a multiple of it"),
        ("--target 0", "--target: not a list of percentages above 0, up to 100 (got 0)"),
        ("--target 101", "--target: not a list of percentages above 0, up to 100 (got 101)"),
        ("--target nan", "--target: not a list of percentages above 0, up to 100 (got nan)"),
        ("--hbm 4GiB", "--hbm: how many bytes a block takes depends on the model (got 4GiB); add"),
        ("--kv-dtype fp8", "--kv-dtype: how many bytes a block takes depends on the model"),
        ("--model nosuch", "--model: no such model config (got nosuch)"),
        ("--model llama-3.1-8b --kv-dtype q", "--kv-dtype: this KV cache dtype is not modelled"),
        ("--model llama-3.1-8b --disk 4XB", "--disk: unknown unit of bytes (got 4XB)"),
        ("--model llama-3.1-8b --hbm 0", "--hbm: no memory (got 0); leave the flag out"),
        ("--prefill-share 2", "--prefill-share: must be 0 to 1 (got 2.0)"),
        ("--warm-up nan", "--warm-up: must be 0 to 1 (got nan)"),
        ("--replays -1", "--replays: must be 0 or more (got -1)"),
        ("--max-num-seqs 0", "--max-num-seqs: must be 1 to 2,147,483,647 (got 0)"),
        ("--max-model-len 0", "--max-model-len: must be at least 1 (got 0)"),
        ("--arrivals soon", "--arrivals: unknown arrivals (got soon); use backlog or timed"),
        ("--count-partial --with-outputs", "--count-partial: a partial block at a prompt's end"),
        ("--limit 0", "--limit: limit must be at least 1 (got 0)"),
        ("--html -", "--html: not for a terminal; name a file"),
        ("--json - --csv -", "--csv: two outputs in one file; name another file"),
        ("--json nowhere/out.json", "nowhere: --json: no such directory; make it first"),
    ],
)
def test_mistakes_are_one_line(args: str, said: str) -> None:
    done = kvatlas("curve", *args.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"kvatlas: {said}")


def test_a_trace_of_lengths_has_no_curve(tmp_path: Path) -> None:
    trace = tmp_path / "lengths.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,6,6\n", encoding="utf-8")
    for verb in ("curve", "policies"):
        done = kvatlas(verb, trace)
        assert (done.code, done.out) == (2, "")
        assert "nobody can say what its requests share" in done.err


def test_a_trace_without_reuse_is_no_mistake(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    rows = (
        f'{{"timestamp": {i}, "input_length": 1024, "output_length": 4, "hash_ids": [{2 * i}, '
        f"{2 * i + 1}]}}"
        for i in range(20)
    )
    trace.write_text("\n".join(rows) + "\n", encoding="utf-8")
    page = tmp_path / "page.html"
    done = kvatlas("curve", trace, "--html", page)
    assert (done.code, done.err) == (0, "")
    assert "no cache can help here" in done.out
    assert page.exists()


@pytest.mark.parametrize(
    ("what", "args", "said"),
    [
        ("walking the trace", (), "of 2,000 requests; every figure is of these"),
        ("finding the optimum", (), "after 1 of "),
        ("replaying", ("--replays", "2"), "of 2 replays"),
    ],
)
def test_sigint_reports_what_is_done(
    tmp_path: Path, what: str, args: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out.json"
    started = process(["curve", "--json", out, *args], code=_TELL.replace("{what}", what))
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    started.send_signal(signal.SIGINT)
    report, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert "PARTIAL: interrupted after" in report
    assert said in " ".join(report.split())
    assert "Traceback" not in report + err
    document = json.loads(out.read_bytes())
    assert document["partial"] is True
    assert document["queried_tokens"] > 0


def test_interrupted_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.cli.trace_source.generate", interrupted)
    for verb in ("curve", "policies"):
        done = kvatlas(verb)
        assert (done.code, done.out) == (130, "")
        assert done.err == "kvatlas: interrupted before there was anything to report\n"


def documented(page: str, section: str = "") -> set[str]:
    """Return the keys in the first column of a page of the reference, or of a section of it."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / page).read_text(encoding="utf-8")
    part = text.split(f"\n## {section}\n")[1] if section else text
    rows = re.findall(r"^\| (`.*?`) \| ", part.split("\n## ")[0], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


def test_the_keys_are_those_of_the_page() -> None:
    said = curve("--model", "llama-3.1-8b", "--hbm", "1GiB", "--blocks", 700, "--replays", 1)
    assert documented("curve-json.md") == set(said)
    for name in ("curve", "marks", "engine", "advice"):
        assert documented("curve-json.md", name) == set(said[name][0]), name
    assert documented("curve-json.md", "bounds") == set(said["bounds"]["focus"])
    done = kvatlas(
        "policies", "conversation", "--limit", 100, "--policies", "fifo", "--json", "-"
    ).json
    assert documented("policies-json.md") == set(done)
    assert documented("policies-json.md", "policies") == set(done["policies"]["fifo"][0])
