"""Every view of a document on capacity says the same, in order, and breaks on nothing."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from capacity_documents import (
    EVIL,
    bounds,
    curve_document,
    study,
    table_of_nothing,
    without_rows,
)
from html_checker import checked
from rich.console import Console

from kvatlas.measure.curves import Ceiling
from kvatlas.report.capacity_axis import CapacityAxis
from kvatlas.report.capacity_csv import curve_csv
from kvatlas.report.curve_document import CurveDocument
from kvatlas.report.curve_html import curve_html, curve_section
from kvatlas.report.curve_json import curve_dict, curve_json
from kvatlas.report.curve_terminal import capacity_plot, print_curve
from kvatlas.report.terminal_plot import PlotLine


def printed(document: CurveDocument) -> str:
    file = io.StringIO()
    print_curve(Console(file=file, width=80, highlight=False, emoji=False), document)
    return file.getvalue()


def nothing() -> CurveDocument:
    """A trace whose prompts are all shorter than a block."""
    none = Ceiling(0, 0, 0, 0, 30)
    empty = replace(bounds(1), content=0.7, ceiling=0.0, optimum=0.0, lru=0.0, capacity_blocks=0)
    return curve_document(
        table=table_of_nothing(), ceiling=none, warm_ceiling=none, knee=empty, focus=None,
        marks=(), engine=(), advice=(),
    )  # fmt: skip


def test_the_json_has_the_keys_of_the_contract() -> None:
    said = json.loads(curve_json(curve_document()))
    assert said["schema"] == 1
    for key in ("config", "workload", "timing", "knee", "bounds", "marks", "advice", "engine"):
        assert said[key], key
    assert said["queried_blocks"] > 0
    assert said["queried_tokens"] > 0
    for row in said["curve"]:
        assert {
            "capacity_blocks", "hit_blocks", "hit_tokens", "block_hit_rate", "token_hit_rate",
            "optimum_block_hit_rate", "optimum_token_hit_rate", "misses",
        } <= set(row)  # fmt: skip
        assert 0 <= row["token_hit_rate"] <= row["optimum_token_hit_rate"] <= 1
        assert row["hit_tokens"] + sum(row["misses"].values()) == said["queried_tokens"]
    assert said["ceiling"]["token_hit_rate"] == pytest.approx(
        said["ceiling"]["hit_tokens"] / said["queried_tokens"]
    )
    assert said["ceiling"]["warm"]["first_row"] == 30
    assert list(said["bounds"]["focus"]["token_hit_rate"]) == [
        "content", "ceiling", "optimum", "lru", "engine",
    ]  # fmt: skip


def test_what_cannot_be_had_is_null_with_a_reason() -> None:
    said = curve_dict(nothing())
    assert said["curve"][0]["block_hit_rate"] is None
    assert said["ceiling"]["block_hit_rate"] is None
    assert "shorter than a block" in said["unavailable"]["ceiling.block_hit_rate"]
    assert said["bounds"]["focus"] is None
    assert "bounds.focus" in said["unavailable"]
    whole = curve_dict(curve_document())
    assert whole["engine"][1]["token_hit_rate"] is None  # nobody was admitted
    assert whole["advice"][2]["capacity_blocks"] is None
    assert whole["advice"][0]["reason"] is None
    assert {"advice.capacity_blocks", "advice.high_blocks"} <= set(whole["unavailable"])
    assert "curve.capacity_bytes" not in whole["unavailable"]


def test_the_csv_has_the_rows_of_the_json() -> None:
    document = curve_document()
    rows = list(csv.DictReader(io.StringIO(curve_csv(document).decode())))
    said = curve_dict(document)["curve"]
    assert len(rows) == len(said)
    for row, point in zip(rows, said, strict=True):
        assert int(row["capacity_blocks"]) == point["capacity_blocks"]
        assert float(row["token_hit_rate"]) == point["token_hit_rate"]
        assert int(row["cold_tokens"]) == point["misses"]["cold_tokens"]
    assert "misses" not in rows[0]


def test_the_terminal_begins_with_what_to_do_and_fits_80_columns() -> None:
    text = printed(curve_document())
    assert max(len(line) for line in text.splitlines()) <= 80
    order = [
        "Buy 812 blocks.", "Token hit rate over capacity", "Token hit rate by capacity",
        "Bounds at --blocks", "Where prompt tokens go", "Memory tiers", "The engine itself",
        "How much for a wanted token hit rate", "Facts", "a note that must be read",
    ]  # fmt: skip
    at = [text.index(each) for each in order]
    assert at == sorted(at)
    flat = " ".join(text.split())
    assert "NOT CONVERGED" in text
    assert "the second needs 2,000" in flat
    assert "no capacity" in text
    assert "1.2 k to no limit" in text
    assert "a = 0.8" in flat


def test_a_terminal_without_utf_8_gets_the_plot_in_ascii() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80)
    blocks = np.array([10, 100, 1000], np.int64)
    lines = [
        PlotLine("ceiling", "dim", "dashed", blocks, np.full(3, 0.5)),
        PlotLine("LRU", "blue", "solid", blocks, np.array([0.1, 0.3, 0.4])),
    ]
    for part in capacity_plot(console, lines, CapacityAxis.over(blocks), [("knee", 100)]):
        console.print(part)
    console.file.flush()
    text = raw.getvalue().decode("ascii")
    for character in "#-:":
        assert 3 * character in text or f" {character} " in text


def test_the_page_stands_alone_and_begins_with_what_to_do() -> None:
    html, checker = checked(curve_html(curve_document(title=EVIL)))
    said = checker.said
    order = [
        "Buy 812 blocks.", "Token hit rate over capacity", "Where prompt tokens go",
        "Bounds at --blocks", "Bounds at the knee", "Memory tiers", "The engine itself",
        "How much for a wanted", "Token hit rate by capacity", "a note that must be read",
    ]  # fmt: skip
    at = [said.index(each) for each in order]
    assert at == sorted(at)
    assert "prefers-color-scheme:dark" in html
    assert checker.json[0]["bytesPerBlock"] == 2 << 20
    assert "812" in said
    assert f"{curve_document().table.capacity_blocks.size} capacities" in said


def test_a_section_for_another_page_is_well_formed() -> None:
    section = curve_section(curve_document(), host_tier=False)
    checked(f"<html><body>{section}</body></html>".encode())
    assert section.startswith('<section id="capacity"')
    assert section.count("<h1") == 0


@pytest.mark.parametrize(
    "document",
    [
        nothing(),
        without_rows(curve_document()),
        curve_document(focus=None, marks=(), engine=(), advice=(), notes=()),
        curve_document(partial="interrupted after 5 of 9 requests"),
    ],
    ids=["nothing is hit", "no rows", "bare", "partial"],
)
def test_every_view_shows_less_without_breaking(document: CurveDocument) -> None:
    text = printed(document)
    html, checker = checked(curve_html(document))
    assert "nan" not in text.lower().split()
    assert "NaN" not in html.split("<script>")[0]
    assert curve_csv(document).decode().count("\n") <= 100
    assert json.loads(curve_json(document))["partial"] is bool(document.partial)
    for said in (text, checker.said):
        assert ("PARTIAL: interrupted" in said) is bool(document.partial)


def test_a_page_of_every_breakpoint_stays_small() -> None:
    """GIVEN a table of very many rows WHEN drawn THEN its ends, its marks and enough are there."""
    made = study()
    capacities = np.arange(1, 6001, dtype=np.int64)
    document = curve_document(table=made.table(capacities))
    page = curve_html(document)
    _, checker = checked(page)
    drawn = checker.json[0]["blocks"]
    assert len(page) < 700_000
    assert 1000 < len(drawn) < 1600
    assert {1, 6000, 700, 900, 3000} <= set(drawn)
    assert "--csv has" in checker.said
