"""`kvatlas bench placement`: the contract, the outputs, mistakes in one line, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from command import kvatlas, process

from kvatlas.placement import PLACEMENTS

pytestmark = pytest.mark.slow

SMALL = ("bench", "placement", "conversation", "--limit", 80)

# Says on standard error that replays are under way, each slow, and waits for the signal.
_TELL = """
import sys, time
from kvatlas.cli.progress import ProgressLine
from kvatlas.engine import Replay
slices = Replay.slices
def slow(self, **_):
    for each in slices(self, max_steps=4):
        time.sleep(0.02)
        yield each
Replay.slices = slow
def update(self, done, total=None, what=None):
    if what == "replaying Sorted":
        print("under way", file=sys.stderr, flush=True)
        time.sleep(0.3)
ProgressLine.update = update
"""


def compared(*args: object) -> Any:
    done = kvatlas(*SMALL, *args, "--json", "-")
    assert (done.code, done.err) == (0, "")
    return done.json


@pytest.mark.variants
def test_the_json_is_the_contract() -> None:
    said = compared("--scheduler", "--max-num-seqs", 8)
    assert said["schema"] == 1
    assert {"config", "workload", "timing", "pool", "verdict", "notes", "about"} <= set(said)
    for way in ("policies", "scheduler"):
        assert list(said[way]) == list(PLACEMENTS)
        for name, each in said[way].items():
            assert each["runs_per_request"] >= 1
            assert 0 < each["token_hit_rate"] < 1
            assert each["ns_per_block"] > 0
            assert 1 <= each["free_run_p50"] <= each["free_run_p99"] <= 1200
            assert each["same_hits"] or not PLACEMENTS[name].same_victims
    assert said["pool"]["num_blocks"] > 1
    assert said["verdict"]


@pytest.mark.variants
def test_a_list_a_pool_a_page_and_a_number_behind_a_name() -> None:
    said = compared("--policies", "window:2", "--blocks", 900, "--page-blocks", 8,
                    "--copy-blocks", 2)  # fmt: skip
    assert list(said["policies"]) == ["queue", "window:2"]
    assert said["scheduler"] is None
    assert said["unavailable"]["scheduler"] == "--scheduler was not given"
    assert said["pool"] == {"num_blocks": 900, "reason": "as asked for by --blocks"}
    queue = said["policies"]["queue"]
    assert queue["page_blocks"] == 8
    assert queue["descriptors_per_request"] > queue["runs_per_request"]


@pytest.mark.variants
def test_all_views_at_once(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "html")}
    outputs = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = kvatlas(*SMALL, "--policies", "sorted", *outputs)
    assert (done.code, done.err) == (0, "")
    assert "Runs per request" in done.out
    said = json.loads(paths["json"].read_bytes())
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text(encoding="utf-8"))))
    assert [row["policy"] for row in rows] == ["queue", "sorted"]
    assert [float(row["runs_per_request"]) for row in rows] == [
        each["runs_per_request"] for each in said["policies"].values()
    ]
    assert "Requests by runs" in paths["html"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--policies foo", "--policies: unknown placement (got foo); use one of queue, sorted"),
        ("--policies ,", "--policies: a list with nothing in it (got ,)"),
        ("--blocks 0", "--blocks: must be 1 to"),
        ("--blocks 1", "--blocks: must be at least 2 (got 1)"),
        ("--page-blocks 0", "--page-blocks: must be 1 to"),
        ("--copy-blocks 0", "--copy-blocks: must be 1 to"),
        (
            "--block-size 7",
            "generated: conversation(seed=0): --block-size: block size does not divide",
        ),
        ("--html -", "--html: not for a terminal; name a file"),
    ],
)
def test_mistakes_are_one_line(args: str, said: str) -> None:
    done = kvatlas("bench", "placement", "--limit", 5, *args.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"kvatlas: {said}")


def test_a_pool_that_fits_nobody_is_one_line() -> None:
    done = kvatlas(*SMALL, "--blocks", 3)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "--blocks: no request of conversation" in done.err
    least = int(done.err.split("the smallest needs ")[1].split()[0].replace(",", ""))
    # One block less still serves nobody; with as many as it says somebody is served.
    assert kvatlas(*SMALL, "--blocks", least - 1).code == 2
    said = compared("--blocks", least, "--policies", "queue")
    assert 0 < said["policies"]["queue"]["never_served"] < 80
    assert said["policies"]["queue"]["requests"] > 0


@pytest.mark.variants
def test_sigint_reports_the_policies_that_are_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    started = process([*SMALL, "--json", out], code=_TELL)
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    started.send_signal(signal.SIGINT)
    report, err = started.communicate(timeout=240)
    assert started.returncode == 130, err
    assert "PARTIAL: interrupted: without sorted" in report.replace("\n", " ")
    assert "Traceback" not in report + err
    said = json.loads(out.read_bytes())
    assert said["partial"] is True
    assert list(said["policies"]) == ["queue"]
