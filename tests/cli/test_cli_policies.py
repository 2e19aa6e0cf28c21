"""`kvatlas policies`: the contract, the outputs, mistakes in one line, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from command import kvatlas, process

from kvatlas.eviction import POLICIES

SMALL = ("policies", "conversation", "--limit", 150)

# Says on standard error that simulations are under way, each slow, and waits for the signal.
_TELL = """
import sys, time
from kvatlas.cli.progress import ProgressLine
from kvatlas.eviction import PrefixOnlyRun
slices = PrefixOnlyRun.slices
def slow(self):
    for each in slices(self, max_accesses=2000):
        time.sleep(0.02)
        yield each
PrefixOnlyRun.slices = slow
def update(self, done, *_):
    if self._unit == "simulations":
        print("under way", file=sys.stderr, flush=True)
        time.sleep(0.3)
ProgressLine.update = update
"""


def compared(*args: object) -> Any:
    done = kvatlas(*SMALL, *args, "--json", "-")
    assert (done.code, done.err) == (0, "")
    return done.json


def test_the_json_is_the_contract() -> None:
    said = compared("--capacities", "200,800")
    assert said["schema"] == 1
    assert {"config", "workload", "timing", "knee", "verdict", "notes", "engine"} <= set(said)
    assert list(said["policies"]) == [*POLICIES, "optimum", "ceiling"]
    for name, points in said["policies"].items():
        assert [point["capacity_blocks"] for point in points] == [200, 800]
        for at, point in enumerate(points):
            assert point["block_hit_rate"] == point["hit_blocks"] / said["queried_blocks"]
            best = said["policies"]["optimum"][at]["hit_blocks"]
            assert point["hit_blocks"] <= best or name == "ceiling"
    assert said["verdict"]


def test_the_knee_is_among_the_capacities_and_a_pool_is_added() -> None:
    said = compared("--policies", "lru", "--blocks", 333)
    capacities = [point["capacity_blocks"] for point in said["policies"]["lru"]]
    assert {333, said["knee"]["capacity_blocks"]} <= set(capacities)
    assert 9 <= len(capacities) <= 11
    assert list(said["policies"]) == ["lru", "optimum", "ceiling"]


@pytest.mark.variants
def test_each_policy_is_replayed_in_the_engine() -> None:
    said = compared("--policies", "fifo", "--capacities", 900, "--blocks", 900, "--replays", 1)
    assert list(said["engine"]) == ["lru", "fifo"]
    for points in said["engine"].values():
        assert [point["num_blocks"] for point in points] == [901]
        assert points[0]["queried_tokens"] > 0


def test_all_views_at_once(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "html")}
    outputs = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = kvatlas(*SMALL, "--policies", "sieve", "--capacities", "100,300,900", *outputs)
    assert (done.code, done.err) == (0, "")
    assert "Block hit rate over capacity" in done.out
    said = json.loads(paths["json"].read_bytes())
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text(encoding="utf-8"))))
    assert len(rows) == 4 * 3
    assert [float(row["block_hit_rate"]) for row in rows if row["policy"] == "sieve"] == [
        point["block_hit_rate"] for point in said["policies"]["sieve"]
    ]
    assert "SIEVE" in paths["html"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--policies foo", "--policies: unknown eviction policy (got foo); use one of lru, fifo"),
        ("--policies ,", "--policies: a list with nothing in it (got ,)"),
        ("--capacities 0", "--capacities: not a list of blocks"),
        ("--block-size 7", "--block-size: blocks must divide 16 tokens or be a multiple of it"),
        ("--replays -1", "--replays: must be 0 or more (got -1)"),
        (
            "--max-num-batched-tokens 0",
            "--max-num-batched-tokens: must be 1 to 2,147,483,647 (got 0)",
        ),
        ("--html -", "--html: not for a terminal; name a file"),
    ],
)
def test_mistakes_are_one_line(args: str, said: str) -> None:
    done = kvatlas("policies", *args.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"kvatlas: {said}")


@pytest.mark.variants
def test_sigint_reports_the_policies_that_are_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    started = process(["policies", "--limit", 400, "--json", out], code=_TELL)
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    started.send_signal(signal.SIGINT)
    report, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert "PARTIAL: interrupted" in report
    assert "Traceback" not in report + err
    said = json.loads(out.read_bytes())
    assert said["partial"] is True
    assert {"lru", "optimum", "ceiling"} <= set(said["policies"])
    assert len(said["policies"]) < len(POLICIES) + 2
