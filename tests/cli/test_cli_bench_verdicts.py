"""`kvatlas bench verdicts`: table, JSON, bad input."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from command import kvatlas, process

from kvatlas.plan.small_policies import SMALL_POLICIES

_TELL = """
import sys, time
from kvatlas.cli.progress import ProgressLine
def update(self, done, total=None, what=None):
    if "lazy-free" in what:
        print("under way", file=sys.stderr, flush=True)
        time.sleep(0.3)
ProgressLine.update = update
"""
SMALL = ("bench", "verdicts", "conversation", "--limit", 120, "--max-num-seqs", 24)


@pytest.mark.rare
def test_the_table_marks_what_gains_nothing() -> None:
    done = kvatlas(*SMALL)
    assert done.code == 0
    assert "120 requests" in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 80
    for name in ("off", *SMALL_POLICIES):
        assert name in done.out
    (row,) = (line for line in done.out.splitlines() if line.strip().startswith("lazy-free"))
    assert row.rstrip().endswith("no gain")
    assert "0.1 points of hit rate" in " ".join(done.out.split())


@pytest.mark.variants
def test_the_json_holds_every_figure_and_is_documented() -> None:
    document = kvatlas(*SMALL, "--policies", "lazy-free,admit-by-growth", "--json", "-").json
    guide = Path(__file__).parents[2] / "docs" / "guide" / "pressure.md"
    text = guide.read_text(encoding="utf-8")
    assert document["schema"] == 1
    assert not document["partial"]
    (trace,) = document["traces"]
    assert list(trace["policies"]) == ["lazy-free", "admit-by-growth"]
    assert trace["num_blocks"] < trace["peak_blocks"]
    for part in (document, trace, trace["off"], trace["policies"]["lazy-free"]):
        for key in part:
            assert f"`{key}`" in text, key
    assert trace["off"]["acted"] == 0 < trace["policies"]["lazy-free"]["acted"]
    assert document["config"]["share"] == 0.5


@pytest.mark.variants
def test_blocks_are_as_asked_for() -> None:
    document = kvatlas(*SMALL, "--blocks", 700, "--policies", "blocks-ahead", "--json", "-").json
    assert document["traces"][0]["num_blocks"] == 700
    assert document["traces"][0]["peak_blocks"] is None
    assert document["config"]["share"] is None


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--policies", "hope"), "--policies: unknown policy"),
        (("--policies", ","), "--policies: no policy"),
        (("--share", "0"), "--share: a share of the peak demand"),
        (("--blocks", "1"), "--blocks: must be 2"),
        (("--share", "0.5", "--blocks", "40"), "--share: two sizes for one pool (got 0.5)"),
        (("--limit", "9", "--blocks", "3"), "--blocks: no request of conversation"),
        (("--limit", "9", "--blocks", "999", "--max-model-len", "8"), "--max-model-len: no req"),
        (("--limit", "0"), "limit"),
        (("--block-size", "auto"), "--block-size: only kvatlas replay chooses it"),
    ],
)
def test_bad_input_is_one_line(flags: tuple[str, ...], line: str) -> None:
    done = kvatlas("bench", "verdicts", "conversation", *flags)
    assert done.code == 2
    assert line in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.variants
def test_sigint_reports_the_policies_that_are_whole(tmp_path: Path) -> None:
    # GIVEN one trace WHEN interrupted at its second policy THEN the first is reported
    out = tmp_path / "out.json"
    names = "block-size,lazy-free,blocks-ahead"
    started = process([*SMALL, "--policies", names, "--json", out], code=_TELL)
    assert started.stderr is not None
    assert started.stderr.readline() == "under way\n"
    started.send_signal(signal.SIGINT)
    report, err = started.communicate(timeout=240)
    assert started.returncode == 130, err
    said = json.loads(out.read_bytes())
    assert said["partial"] is True
    assert said["partial_reason"] == "interrupted: conversation without lazy-free, blocks-ahead"
    assert said["partial_reason"] in " ".join(report.split())
    (trace,) = said["traces"]
    assert list(trace["policies"]) == ["block-size"]
    assert "Traceback" not in report + err
