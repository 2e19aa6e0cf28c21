"""`kvatlas traces`: list, fetch, describe, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import hashed_trace, kvatlas, replayed

from kvatlas.workload.generators import names
from kvatlas.workload.public_traces import TRACES


def test_list_names_everything() -> None:
    done = kvatlas("traces", "list")
    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    for name in (*names(), *TRACES):
        assert name in done.out
    listing = kvatlas("traces", "list", "--json", "-").json
    assert listing["schema"] == 1
    assert [each["name"] for each in listing["built_in"]] == list(names())
    assert {each["name"] for each in listing["public"]} == set(TRACES)


def test_describe(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl", 5)
    done = kvatlas("traces", "describe", trace)
    assert (done.code, done.err) == (0, "")
    assert "5 requests over 4 s" in done.out
    out = tmp_path / "out.json"
    assert kvatlas("traces", "describe", trace, "--block-size", 64, "--json", out).code == 0
    description = json.loads(out.read_bytes())
    assert description["sharing"]["ceiling_hit_tokens"] == 4 * 512
    assert kvatlas("traces", "describe", "bursts", "--limit", 10).code == 0


def test_export_is_read_back(tmp_path: Path) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl.gz"
    rows = [{"prompt": "the same words again " * 30 + str(i), "output_tokens": 3} for i in range(4)]
    log.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = kvatlas("traces", "export", log, out, "--salt", "pepper", "--json", "-")
    assert done.code == 0, done.err
    assert done.json["requests"] == 4
    assert b"words" not in out.read_bytes()
    assert "pepper" not in done.out
    assert replayed(out)["decisions"]["finished"] == 4
    assert "Written" in kvatlas("traces", "export", log, out).out


def test_fetch_tells_where_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a trace that is in the cache by now
    trace = hashed_trace(tmp_path / "t.jsonl")
    told: list[tuple[str, int, int | None]] = []

    def fetch(name: str, *, progress: object) -> Path:
        assert callable(progress)
        progress("t.jsonl", 5, 10)
        told.append((name, 5, 10))
        return trace

    monkeypatch.setattr("kvatlas.workload.fetch.fetch", fetch)
    done = kvatlas("traces", "fetch", "mooncake-synthetic")
    assert done.code == 0, done.err
    assert told == [("mooncake-synthetic", 5, 10)]
    assert "kvatlas replay mooncake-synthetic" in done.out
    listing = kvatlas("traces", "fetch", "mooncake-synthetic", "--json", "-").json
    assert listing["path"] == str(trace)
    assert listing["format"] == "mooncake"
    assert listing["size_bytes"] == trace.stat().st_size


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("fetch", "nosuch"), "unknown public trace (got nosuch); use one of"),
        (("describe", "nosuch.csv"), "nosuch.csv: no such file"),
        (("describe", "bursts", "--block-size", "0"), "--block-size: must be at least 1 (got 0)"),
        (("describe", "bursts", "--block-size", "7"), "--block-size: blocks must divide 16 tokens"),
        (("export", "nosuch.jsonl", "out.jsonl"), "nosuch.jsonl: no such file"),
        (("export", "x", "-"), "OUT: an export is written to a file"),
        (("list", "--json", "/nosuch/out.json"), "--json: no such directory"),
    ],
)
def test_mistakes_are_one_line(args: tuple[str, ...], said: str) -> None:
    done = kvatlas("traces", *args)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err


def test_a_public_trace_that_is_not_here_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch")
    monkeypatch.setenv("KVATLAS_CACHE", str(tmp_path))
    done = kvatlas("replay", "mooncake-toolagent")
    assert done.code == 2
    assert "run kvatlas traces fetch mooncake-toolagent first" in done.err
