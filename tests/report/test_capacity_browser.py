"""Pages about capacity in a real browser: they open, answer, zoom, and say no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium, find_chromium
from capacity_documents import curve_document, policies_document

from kvatlas.report.curve_html import curve_html
from kvatlas.report.policies_html import policies_html

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "curve.html"
    path.write_bytes(curve_html(curve_document()))
    return path


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "policies.html"
    path.write_bytes(policies_html(policies_document()))
    return path


@pytest.mark.parametrize("width", [700, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_without_a_complaint(
    browser: Browser, curve: Path, policies: Path, width: int, dark: bool
) -> None:
    for file in (curve, policies):
        page = browser.open(file, width=width, height=900, dark=dark)
        assert page.complaints() == []
        assert page.run("document.documentElement.scrollWidth") <= width
        background = page.run("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is not dark


def test_pointing_reads_the_nearest_capacity_on_all_charts(browser: Browser, curve: Path) -> None:
    """GIVEN two charts WHEN one is pointed at THEN both say what the document has there."""
    table = curve_document().table
    page = browser.open(curve)
    page.mouse("mouseMoved", *page.middle(".plot"))
    at = page.run("document.querySelector('.chart .at').textContent")
    assert at.startswith("at ")
    blocks = int(at.split()[1].replace(",", ""))
    row = table.capacity_blocks.tolist().index(blocks)
    assert "tokens" in at
    assert "iB" in at
    said = page.run("[...document.querySelectorAll('.key b')].map((b) => b.textContent)")
    assert said[0] == said[3]  # LRU, and what is hit of all tokens
    lru = 100 * int(table.hit_tokens[row]) / table.queried_tokens
    assert float(said[0].rstrip("%")) == pytest.approx(lru, rel=0.01)
    best = lru + 100 * int(table.policy_tokens[row]) / table.queried_tokens
    assert float(said[1].rstrip("%")) == pytest.approx(best, rel=0.01)
    layers = [float(each.rstrip("%")) for each in said[3:8]]
    assert sum(layers) == pytest.approx(100, abs=0.3)
    cursors = page.run("[...document.querySelectorAll('.cursor')].map((c) => c.style.left)")
    assert len(set(cursors)) == 1


def test_keys_move_and_zoom(browser: Browser, policies: Path) -> None:
    """GIVEN no mouse WHEN keys are pressed THEN the cursor stands on each capacity in turn."""
    document = policies_document()
    page = browser.open(policies)
    page.run("document.querySelector('.plot').focus()")
    page.key("Home")
    seen = []
    for _ in range(document.capacity_blocks.size):
        at = page.run("document.querySelector('.chart .at').textContent")
        seen.append(int(at.split()[1].replace(",", "")))
        page.key("ArrowRight")
    assert seen == document.capacity_blocks.tolist()
    labels = page.run("document.querySelector('.xs').textContent")
    page.key("+", text="+")
    assert page.run("document.querySelector('.chart').matches('.zoomed')")
    assert page.run("document.querySelector('.xs').textContent") != labels
    assert not page.run("document.querySelector('[data-whole-curve]').hidden")
    page.key("0", text="0")
    assert page.run("capacityAxis.from === capacityAxis.first")
    assert page.complaints() == []


def test_marks_move_with_the_zoom(browser: Browser, curve: Path) -> None:
    page = browser.open(curve)
    x, y = page.middle(".plot")
    before = page.run("[...document.querySelectorAll('.upright')].map((u) => u.style.left)")
    page.mouse("mousePressed", x + 100, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 350, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 350, y, button="left", clickCount=1)
    places = (
        "[...document.querySelectorAll('.upright')].map("
        "(u) => [u.style.left, u.style.display === 'none', +u.dataset.at])"
    )
    after = page.run(places)
    assert [left for left, _, _ in after] != before
    low, high = page.run("[capacityAxis.from, capacityAxis.to]")
    for _, hidden, at in after:
        assert hidden is not (low <= at <= high)
