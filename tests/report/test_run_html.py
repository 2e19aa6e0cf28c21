"""The page of a run: one file, valid, escaped, small, nothing from a network."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import run_builders
from html_checker import Checker
from html_checker import checked as checked_page
from run_documents import EVIL, run_document

from kvatlas.measure import Figures
from kvatlas.report.run_document import Effect, Finding, Histogram, RunDocument, Table, TimeSeries
from kvatlas.report.run_html import run_html


def checked(document: RunDocument) -> tuple[str, Checker]:
    return checked_page(run_html(document))


def test_one_file_that_loads_nothing() -> None:
    html, _ = checked(run_document())
    assert not re.search(r"https?:|@import|url\(|import\s*\(|fetch\(", html)
    assert "prefers-color-scheme:dark" in html
    assert "width=device-width" in html
    assert "default-src 'none'" in html  # and the browser holds it to that


def test_the_verdict_comes_first_and_says_what_was_measured() -> None:
    """GIVEN findings WHEN shown THEN tone, evidence, flag, before, after and command are there."""
    _, checker = checked(run_document())
    said = checker.said
    for text in ("Act", "Watch", "Good", "More blocks would keep", "27% of the missed", "Change",
                 "--blocks 4800", "→", "kvatlas replay chats.jsonl --blocks 4800"):  # fmt: skip
        assert text in said
    assert said.index("Verdict") < said.index("At a glance") < said.index("Block map")


def test_a_small_effect_is_shown_with_enough_digits() -> None:
    effect = Effect("prefix.token_hit_rate", 0.14379, 0.14386, "kvatlas replay")
    finding = Finding("r", "watch", "t", ("e 1% -> 2%",), effect=effect)
    _, checker = checked(run_document(findings=(finding,)))
    assert "14.38% → 14.39%" in checker.said
    assert "e 1% → 2%" in checker.said


def test_an_effect_that_is_none_is_said() -> None:
    finding = Finding("r", "good", "t", (), effect=Effect("preemption.count", 2.0, 2.0, "kvatlas"))
    _, checker = checked(run_document(findings=(finding,)))
    assert "preemptions stays at 2" in checker.said


def test_every_section_tells_what_it_shows() -> None:
    """GIVEN the page WHEN read from the top THEN a sentence follows every heading."""
    html, checker = checked(run_document())
    headings = re.findall(r"<h2[^>]*>.*?</h2>(<p class=\"sub\">)?", html)
    assert len(headings) >= 8
    assert all(headings)
    assert "scattered blocks slow nothing down" in checker.said


def test_misses_add_up() -> None:
    html, checker = checked(run_document())
    widths = re.findall(r'<i class="m\d" style="width:([\d.]+)%"', html)
    assert sum(map(float, widths)) == pytest.approx(100)
    assert "2.0% of all misses were being computed" in checker.said


def test_text_from_a_trace_stays_text() -> None:
    """GIVEN names that are markup WHEN shown anywhere THEN they are text; scripts are all ours."""
    _, plain = checked(run_document())
    finding = Finding("r", "act", EVIL, (EVIL,), EVIL, None, EVIL)
    document = run_document(
        title=EVIL,
        engine=EVIL,
        partial=EVIL,
        notes=(EVIL, "half \udcff a pair"),
        findings=(finding,),
        workload={"name": EVIL, EVIL: EVIL, "notes": [EVIL]},
        tables={EVIL: Table(EVIL, (EVIL,), ((EVIL,), (run_builders.NASTY,)), EVIL)},
        histograms={
            EVIL: Histogram(EVIL, EVIL, np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0]), EVIL)
        },
        frames=replace(run_document().frames, thinned=EVIL, names=(EVIL, "</script>", "\udcff")),
    )
    html, checker = checked(document)
    assert checker.scripts == plain.scripts
    assert html.count("window.evil=1</script>") == 0
    assert "\u202e" not in html
    frames = next(data for data in checker.json if "streams" in data)
    assert frames["names"][0] == EVIL
    assert checker.said.count("window.evil=1") >= 10


def test_charts_share_a_time_axis() -> None:
    _, checker = checked(run_document())
    charts = [data for data in checker.json if "values" in data]
    assert len(charts) >= 5
    assert len({(data["start"], data["end"][-1]) for data in charts}) == 1


def test_what_is_not_there_is_said() -> None:
    """GIVEN a run without clock, frames, findings and figures WHEN shown THEN the page says so."""
    nothing = TimeSeries(np.empty(0), np.empty(0), {})
    figures = Figures()
    figures.lack("caching is off", "prefix.token_hit_rate", "attribution.cold")
    document = run_document(
        series=nothing,
        frames=None,
        findings=(),
        figures=figures,
        histograms={},
        tables={},
        notes=(),
        partial="cut off",
    )
    _, checker = checked(document)
    for text in ("nothing to draw", "No moments of the pool", "caching is off", "PARTIAL: cut off",
                 "No rule found anything"):  # fmt: skip
        assert text in checker.said


def test_any_document_makes_a_page() -> None:
    checked(run_builders.run_document())
    checked(run_builders.run_document(unknown=tuple(run_builders.FIGURES)))


def test_frames_make_up_most_of_the_page() -> None:
    document = run_document()
    assert len(run_html(document)) < 250_000 + 1.4 * document.frames.packed_bytes
