"""The page on placement in a real browser: it opens, answers, zooms, and says no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium, find_chromium
from placement_documents import placement_document

from kvatlas.report.placement_html import placement_html

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def placement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "placement.html"
    path.write_bytes(placement_html(placement_document()))
    return path


@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_without_a_complaint(
    browser: Browser, placement: Path, width: int, dark: bool
) -> None:
    page = browser.open(placement, width=width, height=900, dark=dark)
    assert page.complaints() == []
    assert page.run("document.documentElement.scrollWidth") <= width
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_runs_and_lengths_have_an_axis_each(browser: Browser, placement: Path) -> None:
    """GIVEN charts over runs and over blocks WHEN one is pointed at THEN only its kind answers."""
    page = browser.open(placement)
    page.run("document.querySelector('.runs .plot').focus()")
    page.key("Home")
    said = page.run("[...document.querySelectorAll('figure .at')].map((a) => a.textContent)")
    runs = page.run("[...document.querySelectorAll('figure')].map((f) => f.matches('.runs'))")
    assert runs.count(True) == runs.count(False) == 2
    for text, is_runs in zip(said, runs, strict=True):
        assert text == ("at 1 run" if is_runs else "")
    page.run("document.querySelector('figure:not(.runs) .plot').focus()")
    page.key("Home")
    said = page.run("[...document.querySelectorAll('figure .at')].map((a) => a.textContent)")
    assert [text for text, is_runs in zip(said, runs, strict=True) if not is_runs] == [
        "at 1 block · 16 tokens"
    ] * 2


def test_zooming_shows_the_button_of_its_own_axis(browser: Browser, placement: Path) -> None:
    page = browser.open(placement)
    page.run("document.querySelector('.runs .plot').focus()")
    page.key("End")
    page.key("+", text="+")
    hidden = "[...document.querySelectorAll('.capacity-help button')].map((b) => b.hidden)"
    assert page.run(hidden) == [False, True]
    page.key("0", text="0")
    assert page.run(hidden) == [True, True]
