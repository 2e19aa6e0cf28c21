"""Every view of a comparison of placements says the same, in order, and breaks on nothing."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from html_checker import checked
from placement_documents import EVIL, nobody, placement_document, row
from rich.console import Console

from kvatlas.report.numbers import mean
from kvatlas.report.placement_document import PlacementDocument
from kvatlas.report.placement_html import placement_html
from kvatlas.report.placement_json import placement_csv, placement_dict, placement_json
from kvatlas.report.placement_tables import copies_table, free_table, runs_table
from kvatlas.report.placement_terminal import print_placement


def printed(document: PlacementDocument) -> str:
    file = io.StringIO()
    print_placement(Console(file=file, width=80, highlight=False, emoji=False), document)
    return file.getvalue()


def without_scheduler() -> PlacementDocument:
    document = placement_document(scheduler=())
    return replace(document, config={**document.config, "scheduler": False})


def test_the_json_has_the_keys_of_the_contract() -> None:
    said = json.loads(placement_json(placement_document()))
    assert said["schema"] == 1
    assert list(said["policies"]) == ["queue", "sorted", "window"]
    assert list(said["scheduler"]) == ["queue", "sorted"]
    best = said["policies"]["sorted"]
    assert best["runs_per_request"] == 2.5
    assert best["fewer_runs"] == 10.0
    assert best["token_hit_rate"] == 0.5
    assert best["same_hits"] is True
    assert best["ns_per_block"] == pytest.approx(200)
    assert best["largest_free_run"] == 150
    assert (best["free_run_p50"], best["free_run_p99"]) == (2, 150)
    assert best["free_run_histogram"] == [
        {"least": 1, "most": 1, "runs": 0.5},
        {"least": 2, "most": 3, "runs": 1.0},
        {"least": 8, "most": 15, "runs": 0.5},
        {"least": 128, "most": 255, "runs": 0.5},
    ]
    assert set(best["ufsi"]) == {"order_3", "order_6", "order_9"}
    window = said["policies"]["window"]
    assert window["same_hits"] is False
    assert window["hit_rate_change"] == pytest.approx(-1 / 640)
    assert said["about"]["window"]["summary"] == "what window does"
    assert said["unavailable"] == {}


def test_what_cannot_be_had_is_null_with_a_reason() -> None:
    document = replace(without_scheduler(), open_loop=(nobody(),))
    said = placement_dict(document)
    assert said["scheduler"] is None
    queue = said["policies"]["queue"]
    for name in ("runs_per_request", "fewer_runs", "runs_p50", "token_hit_rate", "ns_per_block",
                 "efi", "largest_free_run", "free_run_p50"):  # fmt: skip
        assert queue[name] is None, name
    reasons = {"scheduler", "policies.runs_per_request", "policies.token_hit_rate",
               "policies.ns_per_block", "policies.efi"}  # fmt: skip
    assert set(said["unavailable"]) == reasons


def test_the_csv_has_a_row_for_each_policy_and_way() -> None:
    rows = list(csv.DictReader(io.StringIO(placement_csv(placement_document()).decode())))
    assert [(each["driven"], each["policy"]) for each in rows] == [
        ("open_loop", "queue"), ("open_loop", "sorted"), ("open_loop", "window"),
        ("scheduler", "queue"), ("scheduler", "sorted"),
    ]  # fmt: skip
    assert float(rows[1]["runs_per_request"]) == 2.5
    assert "ufsi_order_6" in rows[0]


def test_the_tables_hold_every_policy_against_the_queue() -> None:
    document = placement_document()
    table = runs_table(document.open_loop, "here")
    assert table.marked == {0}
    said = [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]
    assert [each["fewer"] for each in said] == ["–", "10.0×", "12.5×"]
    assert [each["to queue"] for each in said] == ["–", "same hits", "-0.156"]
    assert [each["ns/block"] for each in said] == ["100", "200", "300"]
    assert "cut at 8" in copies_table(document.open_loop, "here", 8).columns
    assert "descriptors" in copies_table(document.open_loop, "here", None).columns
    assert "of 32 blocks" in free_table(document.open_loop, "here").note


@pytest.mark.parametrize(
    ("runs", "said"),
    [(370.96, "371"), (11.625, "11.6"), (4.386, "4.39"), (1.0, "1.00"), (99.96, "100"),
     (9.996, "10.0"), (12345.6, "12,346"), (float("nan"), "–")],
)  # fmt: skip
def test_a_mean_of_runs_has_three_digits(runs: float, said: str) -> None:
    assert mean(runs) == said


def test_the_terminal_begins_with_the_verdict_and_fits_80_columns() -> None:
    text = printed(placement_document())
    assert max(len(line) for line in text.splitlines()) <= 80
    order = [
        "Sorted is worth it", "Runs per request", "Runs and hits", "Copying a request",
        "Free blocks", "in the full scheduler; logarithmic", "What each does", "Facts",
        "a note that must be read",
    ]  # fmt: skip
    at = [text.index(each) for each in order]
    assert at == sorted(at)


def test_the_page_stands_alone_and_begins_with_the_verdict() -> None:
    _, checker = checked(placement_html(placement_document(title=EVIL)))
    said = checker.said
    order = [
        "Sorted is worth it", "Runs per request", "Requests by runs, one request after another",
        "Free blocks by the length of their run", "Runs and hits",
        "Requests by runs, in the full scheduler", "What each does", "a note that must be read",
    ]  # fmt: skip
    at = [said.index(each) for each in order]
    assert at == sorted(at)


@pytest.mark.parametrize(
    "document",
    [
        replace(without_scheduler(), open_loop=(nobody(),)),
        replace(without_scheduler(), open_loop=(row("queue", [1, 1]), row("sorted", [1, 1]))),
        placement_document(partial="interrupted: without window", scheduler=()),
    ],
    ids=["nobody is served", "one run each", "partial"],
)
def test_every_view_shows_less_without_breaking(document: PlacementDocument) -> None:
    text = printed(document)
    html, checker = checked(placement_html(document))
    assert "NaN" not in html.split("<script>")[0]
    assert "nan" not in text
    assert placement_csv(document)
    assert json.loads(placement_json(document))["partial"] is bool(document.partial)
    for said in (text, checker.said):
        assert ("can never be served" in said) is (document.open_loop[0].never_served > 0)
        assert ("PARTIAL: interrupted" in said) is bool(document.partial)
