"""The page of a budget: where the bars lie, what is flagged, and how a real browser shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, chromium, find_chromium
from budget_documents import GIB, LOAD, REAL, budget_document
from html_checker import checked

from kvatlas.report.budget_bars import Step, Track, waterfall_steps
from kvatlas.report.budget_document import BudgetDocument
from kvatlas.report.budget_html import budget_html

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def document() -> BudgetDocument:
    return budget_document()


def steps_of(document: BudgetDocument) -> dict[str, Step]:
    return {step.name: step for step in waterfall_steps(document)}


def test_each_step_begins_where_the_one_before_it_ends(document: BudgetDocument) -> None:
    """GIVEN a budget WHEN it is drawn THEN the steps leave exactly the KV cache."""
    steps = list(steps_of(document).values())
    at = document.found.tightest.waterfall.total_bytes
    for step in steps[1:6]:
        assert step.predicted is not None
        assert step.predicted.first + step.predicted.size == at, step
        at = step.predicted.first
    assert steps[6].predicted == Track(0, at)
    # AND the buffer is the end of the KV cache, of which the flags leave it free
    buffer = steps_of(document)["buffer, measured"]
    assert buffer.predicted == Track(at - GIB, GIB)
    assert buffer.basis == "measured, recommended"


def test_the_log_has_bars_of_its_own(document: BudgetDocument) -> None:
    steps = steps_of(document)

    assert steps["not requested"].real == Track(72 * GIB, 7 * GIB)
    assert steps["weights"].real == Track(57 * GIB, 15 * GIB)
    assert steps["activations"].real == Track(55 * GIB, 2 * GIB)
    assert steps["CUDA graphs"].real == Track(52 * GIB, 3 * GIB)
    assert steps["KV cache"].real == Track(0, 51 * GIB)
    assert steps["buffer, published"].real is None
    # AND what vLLM takes off a second time is what its suggestion lacks
    assert steps["suggested KV cache"].real == Track(0, 47 * GIB)
    assert steps["graphs, counted twice"].real == Track(47 * GIB, 3 * GIB)


def test_what_the_log_does_not_say_has_no_bar() -> None:
    """GIVEN a log with no word on weights THEN the rest stands where it would with them."""
    part = replace(REAL, weight_bytes=None, suggested=None, corrected=None)
    document = budget_document(real=part)
    steps = steps_of(document)
    weights = document.found.tightest.stage.weight_bytes

    assert steps["weights"].real is None
    assert steps["activations"].real == Track(70 * GIB - weights, 2 * GIB)
    assert "suggested KV cache" not in steps
    assert "counted-twice" not in budget_html(document).decode().partition("<body>")[2]


def test_a_server_that_does_not_fit_lacks_memory() -> None:
    document = budget_document(real=None, model="llama-3.1-70b")
    lacking = steps_of(document)["KV cache"]
    kv = document.found.tightest.waterfall.kv_bytes

    assert (lacking.kind, lacking.predicted) == ("lacking", Track(kv, -kv))
    # AND a log that says so, too, has its bar on the same side of nothing
    beside = budget_document(real=replace(REAL, kv_bytes=-9 * GIB), model="llama-3.1-70b")
    assert steps_of(beside)["KV cache"].real == Track(-9 * GIB, 9 * GIB)
    html, checker = checked(budget_html(document))
    assert "It fits with --tensor-parallel-size 4." in checker.said
    assert 'class="step lacking"' in html
    assert "131.42 GiB" in checker.said and "-131.42 GiB" not in checker.said


def test_the_page_stands_alone_and_begins_with_the_verdict(document: BudgetDocument) -> None:
    evil = replace(document, found=replace(document.found, name=EVIL))
    _, checker = checked(budget_html(evil))
    order = [
        EVIL, "It fits:", "CUDA graphs twice", "Memory of one device", "graphs, counted twice",
        "Beside the log", "The recorded load", "releasing all that is cached 3 times",
        "KV cache groups", "vLLM's flags", "Facts",
        "a limited capacity: not verified on recordings", "kvatlas 1.2.3",
    ]  # fmt: skip
    # The window's title has the name, too.
    said = checker.said.partition("memory budget")[2]
    at = [said.index(each) for each in order]
    assert at == sorted(at)
    assert checker.scripts == 1


def test_padding_has_a_bar() -> None:
    page = budget_html(budget_document(real=None, model="nemotron-3-nano-30b-a3b")).decode()

    assert page.count('<div class="meter">') == 3  # two sizes of recurrent groups, and the full one
    assert "<b>full</b>" in page


def test_an_interrupted_search_says_so(document: BudgetDocument) -> None:
    stopped = replace(document, load=replace(LOAD, survival_bytes=None, identical=False))
    _, checker = checked(budget_html(stopped))

    assert "interrupted before the survival capacity was known" in checker.said
    assert "replayed: NOT identical" in checker.said
    assert "survives from" not in checker.said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "dark"), [(420, False), (1280, True)])
def test_bars_lie_where_the_figures_say(
    browser: Browser, document: BudgetDocument, tmp_path: Path, width: int, dark: bool
) -> None:
    path = tmp_path / "budget.html"
    path.write_bytes(budget_html(document))
    page = browser.open(path, width=width, height=900, dark=dark)

    assert page.complaints() == []
    assert page.run("document.documentElement.scrollWidth") <= width
    twice = "document.querySelector('.step.twice')"
    found = page.run(
        f"(() => {{ const t = {twice}, box = (e) => e.getBoundingClientRect();"
        "const track = box(t.querySelector('.track')), bar = box(t.querySelector('u'));"
        "const before = box(t.previousElementSibling.querySelector('u'));"
        "return [(bar.left - track.left) / track.width, bar.width / track.width,"
        " bar.left - before.right]; })()"
    )
    total = document.found.tightest.waterfall.total_bytes
    assert found == pytest.approx([47 * GIB / total, 3 * GIB / total, 0], abs=0.005)
    red = page.run(f"getComputedStyle({twice}).color")
    assert red == ("rgb(255, 156, 146)" if dark else "rgb(180, 35, 24)")
