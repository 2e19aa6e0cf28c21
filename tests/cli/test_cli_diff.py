"""`kvatlas diff`: the same workload twice, another workload, a run against itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import kvatlas


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Record one workload on a small and on a large pool, and another workload."""
    folder = tmp_path_factory.mktemp("runs")
    recorded = {}
    for name, trace, blocks in (
        ("small", "conversation", 400),
        ("large", "conversation", 4000),
        ("other", "bursts", 400),
    ):
        recorded[name] = folder / f"{name}.parquet"
        done = kvatlas(
            "replay", trace, "--limit", 80, "--blocks", blocks, "--arrivals", "timed",
            "--events", recorded[name],
        )  # fmt: skip
        assert done.code == 0, done.err
    return recorded


def test_one_workload_on_two_pools(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "diff.json"
    done = kvatlas("diff", runs["small"], runs["large"], "--json", out)
    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    for said in ("Settings  those that differ", "num_blocks", "prefix.token_hit_rate", "For whom"):
        assert said in done.out
    said = json.loads(out.read_bytes())
    assert said["comparable"] is True
    assert said["settings"]["num_blocks"] == {"before": 400, "after": 4000}
    hit_rate = said["measurements"]["prefix.token_hit_rate"]
    assert hit_rate["better"] is True
    assert hit_rate["change"] == pytest.approx(hit_rate["after"] - hit_rate["before"])
    hits = said["requests"]["hit_tokens"]
    assert hits["better"] > 0
    assert hits["compared"] == 80


def test_a_run_against_itself(runs: dict[str, Path]) -> None:
    done = kvatlas("diff", runs["small"], runs["small"])
    assert (done.code, done.err) == (0, "")
    for said in ("Settings  all the same", "none moved", "nothing changed for any request"):
        assert said in done.out


def test_another_workload_says_what_is_still_compared(runs: dict[str, Path]) -> None:
    done = kvatlas("diff", runs["small"], runs["other"])
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.split())
    assert "not the same workload" in text
    assert "settings and figures are compared, requests are not" in text
    assert "For whom" not in text
    assert kvatlas("diff", runs["small"], runs["other"], "--json", "-").json["requests"] == {}


def test_a_report_never_takes_the_place_of_a_recording(runs: dict[str, Path]) -> None:
    for run in ("small", "large"):
        done = kvatlas("diff", runs["small"], runs["large"], "--json", runs[run])
        assert done.code == 2
        assert "--json: would overwrite" in done.err


def test_ctrl_c(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.cli.run_analysis.analyse", interrupted)
    done = kvatlas("diff", runs["small"], runs["large"])
    assert (done.code, done.out, done.err) == (130, "", "kvatlas: interrupted\n")
