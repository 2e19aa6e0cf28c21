"""The comparison of two runs, in a terminal and as JSON."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from run_builders import NASTY

from kvatlas.measure.diff import FigureChange
from kvatlas.measure.request_changes import QUANTITIES, QuantityChange, SizeClass
from kvatlas.report.diff_document import DiffDocument, Side
from kvatlas.report.diff_json import diff_json
from kvatlas.report.diff_terminal import print_diff

QUEUE, HITS = QUANTITIES[:2]


def change(**changes: Any) -> QuantityChange:
    given: dict[str, Any] = {
        "quantity": QUEUE, "compared": 100, "better": 60, "worse": 10, "before": 2.0, "after": 0.5,
        "p50": -1.0, "p99": 0.2, "winners": ((7, 9.0, 0.0), (8, 8.0, 0.0)),
        "losers": ((3, 0.0, 0.25),), "only_before": 0, "only_after": 0,
    }  # fmt: skip
    return QuantityChange(**(given | changes))


def document(**changes: Any) -> DiffDocument:
    given: dict[str, Any] = {
        "version": "9.8.7",
        "before": Side("a.parquet", "conversation on vLLM 0.32", ""),
        "after": Side("b.parquet", "conversation on vLLM 0.32", "", {7: NASTY}),
        "not_comparable": "",
        "settings": {"num_blocks": (1500, 3000), "new": (None, True)},
        "figures": (
            FigureChange("prefix.token_hit_rate", 0.375, 0.507, True),
            FigureChange("queue.time_p99_s", 1.0, 20.0, False),
            FigureChange("preemption.count", 0, 4, False),
            FigureChange("usage.peak", 1.0, 0.999, None),
            FigureChange("life.idle_p99_s", 1.0, 2.0, None),
            FigureChange("waste.temporal", None, 0.25, None),
        ),
        "figures_same": 12,
        "requests": (change(),),
        "sizes": (
            SizeClass(1, 10, 50, {"queue_time_s": (3.0, 1.0)}),
            SizeClass(11, 900, 50, {"queue_time_s": None}),
        ),
        "notes": ("a note",),
    }
    return DiffDocument(**(given | changes))


def shown(columns: int = 80, *, all_figures: bool = False, **changes: Any) -> str:
    out = StringIO()
    console = Console(file=out, width=columns, highlight=False)
    print_diff(console, document(**changes), all_figures=all_figures)
    return out.getvalue()


def test_says_what_changed_and_for_whom() -> None:
    text = " ".join(shown().split())
    for said in (
        "A conversation on vLLM 0.32 a.parquet B conversation",
        "num_blocks 1,500 3,000",
        "new – yes",
        "Figures those that moved; 12 others did not move",
        "prefix.token_hit_rate 37.5% 50.7% +35.2% better",
        "queue.time_p99_s 1 s 20 s x20 worse",
        "preemption.count 0 4 +4 worse",
        "waste.temporal not known 25.0%",
        "2 more moved, by little or with these (--all lists them)",
        "Queue time 60 10 30 2 s 500 ms -1.5 s",
        "1 to 10 50 -2 s",
        "11 to 900 50 –",
        "Queue time, gained most 7 <script>alert(1)</s… 9 s 0 s -9 s",
        "Queue time, lost most 3 0 s 250 ms +250 ms",
        "Note a note",
    ):
        assert said in text, said
    for name in ("usage.peak", "life.idle_p99_s"):
        assert name not in text
        assert name in shown(all_figures=True)
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_fits_the_terminal(columns: int) -> None:
    text = shown(columns, requests=(change(), change(quantity=HITS, only_before=3)))
    assert max(len(line) for line in text.splitlines()) <= columns


def test_runs_that_cannot_be_compared_say_so_once() -> None:
    reason = "not the same workload: 3 and 4 requests"
    text = " ".join(shown(not_comparable=reason, requests=(), sizes=()).split())
    assert f"{reason}; settings and figures are compared, requests are not" in text
    assert "For whom" not in text
    assert "prefix.token_hit_rate" in text


def test_equal_runs_and_parts() -> None:
    text = " ".join(
        shown(
            settings={},
            figures=(),
            requests=(change(better=0, worse=0, winners=(), losers=()),),
            before=Side("a", NASTY, "it was cut off"),
        ).split()
    )
    assert "Settings all the same" in text
    assert "none moved" in text
    assert "nothing changed for any request" in text
    assert "PARTIAL: it was cut off" in text
    assert "\x1b" not in text


def test_who_was_served_in_one_run_only() -> None:
    ends = change(quantity=QUANTITIES[-1], only_before=2, only_after=5)
    assert "served in A only: 2; in B only: 5" in shown(requests=(ends,))


def test_json_holds_it_all() -> None:
    said = json.loads(diff_json(document()))
    assert said["schema"] == 1
    assert (said["comparable"], said["not_comparable_because"]) == (True, None)
    assert said["settings"]["num_blocks"] == {"before": 1500, "after": 3000}
    assert said["measurements"]["queue.time_p99_s"] == {
        "before": 1.0, "after": 20.0, "change": 19.0, "relative": 19.0, "better": False,
    }  # fmt: skip
    assert set(said["measurements"]) == {each.name for each in document().figures}
    queue = said["requests"]["queue_time_s"]
    assert queue["higher_is_better"] is False
    assert queue["winners"][0] == {"request": 7, "before": 9.0, "after": 0.0}
    assert said["prompt_sizes"][0]["means"]["queue_time_s"] == {"before": 3.0, "after": 1.0}
    assert said["prompt_sizes"][1]["means"]["queue_time_s"] is None
    assert said["runs"][0] == {
        "path": "a.parquet", "title": "conversation on vLLM 0.32", "partial": False,
        "partial_reason": None,
    }  # fmt: skip
