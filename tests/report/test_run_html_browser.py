"""The page of a run in a real browser: it opens, moves, answers, and says no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, Page, chromium, find_chromium
from run_documents import EVIL, document_of, recorded, run_document

from kvatlas.engine import EngineConfig
from kvatlas.report.run_html import run_html
from kvatlas.workload import generate

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_bytes(run_html(run_document()))
    return path


def opened(browser: Browser, file: Path, **window: Any) -> Page:
    page = browser.open(file, **window)
    page.wait("!!window.kvatlasMap")
    return page


def place_of(page: Page, block: int) -> tuple[float, float]:
    page.middle("#blocks")
    x, y = page.run(
        f"(() => {{ const v = kvatlasMap.view, b = document.getElementById('blocks')"
        f".getBoundingClientRect(); return [b.x + v.left + ({block} % v.columns + .5) * v.scale,"
        f"b.y + v.top + (Math.floor({block} / v.columns) + .5) * v.scale]; }})()"
    )
    return x, y


def tip(page: Page) -> dict[str, str]:
    pairs: dict[str, str] = page.run(
        "Object.fromEntries([...document.querySelectorAll('#tip dt')].map("
        "(t) => [t.textContent, t.nextElementSibling.textContent]))"
    )
    return pairs


def pixels(page: Page) -> str:
    return str(page.run("document.getElementById('blocks').toDataURL()"))


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_without_a_complaint(browser: Browser, file: Path, width: int, dark: bool) -> None:
    """GIVEN a window, light or dark WHEN the page is opened THEN it fits and nothing is wrong."""
    page = opened(browser, file, width=width, height=900, dark=dark)
    assert page.complaints() == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("window.evil") is None
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_every_frame_is_what_was_packed(browser: Browser, file: Path) -> None:
    """GIVEN all frames, in any order WHEN unpacked by the page THEN Python reads the same."""
    frames = run_document().frames
    page = opened(browser, file)
    shown = list(frames.frames())
    order = [*range(len(shown)), *np.random.default_rng(3).permutation(len(shown)).tolist()]
    for number in order:
        frame = shown[number]
        page.run(f"kvatlasMap.frames.go({number})")
        seen = page.run(
            "(({owner, refCount, key, since, nextUse, state}) => [owner, refCount, key, since,"
            "nextUse, state].map((each) => [...each]))(kvatlasMap.frames)"
        )
        assert seen[0] == frame.owner.tolist()
        assert seen[1] == frame.ref_count.tolist()
        assert seen[2] == frame.key.tolist()
        since = np.rint((frame.since_s - frames.start_s) / frames.tick_s).astype(int)
        assert seen[3] == since.tolist()
        uses = np.rint((frame.next_use_s - frames.start_s) / frames.tick_s) + 1
        assert seen[4] == np.nan_to_num(uses, nan=0).astype(int).tolist()
        assert seen[5][1:] == frame.state[1:].tolist()
        assert seen[5][0] == 3  # the null block


def test_the_slider_moves(browser: Browser, file: Path) -> None:
    """GIVEN the slider WHEN keys move it THEN map, clock, legend and charts show that moment."""
    page = opened(browser, file)
    last = int(page.run("+document.getElementById('moment').max"))
    page.run("document.getElementById('moment').focus()")
    page.key("Home")
    first = pixels(page)
    assert page.run("kvatlasMap.frames.frame") == 0
    page.key("ArrowRight")
    assert page.run("+document.getElementById('moment').value") == 1
    page.key("End")
    assert page.run("kvatlasMap.frames.frame") == last
    assert pixels(page) != first
    assert f"moment {last + 1} of {last + 1}" in page.run(
        "document.getElementById('when').textContent"
    )
    assert "in use 0 (0.0%)" in page.run("document.getElementById('map-legend').textContent")
    page.key("ArrowLeft")
    assert page.run("kvatlasMap.frames.frame") == last - 1
    pins = page.run("[...document.querySelectorAll('.pin')].map((p) => parseFloat(p.style.left))")
    assert len(set(pins)) == 1
    assert 90 < pins[0] < 100


def test_it_plays_and_pauses(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    page.run("document.getElementById('moment').focus()")
    page.key("Home")
    page.key(" ", text=" ")
    assert page.run("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    page.wait("kvatlasMap.frames.frame >= 2")
    page.key(" ", text=" ")
    assert page.run("document.getElementById('play').getAttribute('aria-label')") == "Play"


def test_hover_answers(browser: Browser, file: Path) -> None:
    """GIVEN blocks in every state WHEN pointed at THEN the tip says what Python knows of them."""
    frames = run_document().frames
    page = opened(browser, file)
    number = 8
    page.run(f"kvatlasMap.go({number})")
    frame = list(frames.frames())[number]
    states = ("empty", "cached, free to evict", "in use")
    told = 0
    for state, words in enumerate(states):
        for block in np.flatnonzero(frame.state == state)[1:400:100].tolist():
            page.mouse("mouseMoved", *place_of(page, block))
            said = tip(page)
            assert said["Block"] == f"{block:,}"
            assert said["State"] == words
            owner = int(frame.owner[block])
            if state:
                shown = said["Owner" if state == 2 else "Last owner"]
                assert shown == f"request {owner} ({EVIL if owner % 5 == 0 else f'chat-{owner}'})"
            assert said["Ref count"].split(" ")[0] == str(frame.ref_count[block])
            key = int(frame.key[block])
            assert said["Hash"] == ("none (not cached)" if key < 0 else f"{key:08x}")
            assert said["Age"].endswith("in this state")
            if state:
                never = bool(np.isnan(frame.next_use_s[block]))
                assert said["Next use"].startswith("never hit again" if never else "hit in ")
            told += 1
    assert told >= 6
    assert page.run("window.evil") is None
    page.mouse("mouseMoved", 2, 2)
    assert page.run("document.getElementById('tip').hidden")


def test_the_map_by_keyboard_alone(browser: Browser, file: Path) -> None:
    """GIVEN no mouse WHEN keys are pressed THEN the cursor moves, zooms, picks an owner, tells."""
    page = opened(browser, file)
    page.run("document.getElementById('blocks').focus({preventScroll: true})")
    columns = int(page.run("kvatlasMap.view.columns"))
    for key, block in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowDown", 1 + columns)):
        page.key(key)
        assert page.run("kvatlasMap.view.cursor") == block
    assert "Block" in page.run("document.getElementById('said').textContent")
    fitted = page.run("kvatlasMap.view.scale")
    page.key("+", text="+")
    assert page.run("kvatlasMap.view.scale") > fitted
    page.key("Enter")
    owner = page.run("kvatlasMap.view.only")
    assert owner == page.run(f"kvatlasMap.frames.owner[{1 + columns}]")
    assert page.run("document.getElementById('by-owner').getAttribute('aria-pressed')") == "true"
    page.key("Escape")
    assert page.run("kvatlasMap.view.only") is None
    page.key("0", text="0")
    assert page.run("kvatlasMap.view.scale") == fitted
    page.key(".", text=".")
    assert page.complaints() == []


def test_wheel_and_drag(browser: Browser, file: Path) -> None:
    page = opened(browser, file)
    x, y = place_of(page, 1000)
    fitted = page.run("kvatlasMap.view.scale")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    assert page.run("kvatlasMap.view.scale") == 2 * fitted
    page.mouse("mouseMoved", x, y)
    assert tip(page)["Block"] == "1,000"
    top = page.run("kvatlasMap.view.top")
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x, y + 60, button="left", buttons=1)
    page.mouse("mouseReleased", x, y + 60, button="left", clickCount=1)
    assert page.run("kvatlasMap.view.top") == top + 60
    assert page.run("kvatlasMap.view.only") is None  # a drag is no click
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=120)
    assert page.run("kvatlasMap.view.scale") == fitted


def test_charts_zoom_and_set_the_time(browser: Browser, file: Path) -> None:
    """GIVEN one chart WHEN dragged over or clicked THEN all charts zoom, and the map follows."""
    page = opened(browser, file)
    x, y = page.middle(".plot")
    page.mouse("mouseMoved", x, y)
    cursors = page.run("[...document.querySelectorAll('.cursor')].map((c) => c.style.left)")
    assert len(set(cursors)) == 1
    page.click(x - 200, y)
    early = page.run("kvatlasMap.frames.frame")
    page.click(x + 150, y)
    assert page.run("kvatlasMap.frames.frame") > early
    page.mouse("mousePressed", x - 80, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 80, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 80, y, button="left", clickCount=1)
    assert page.run("timeAxis.to - timeAxis.from") < page.run("timeAxis.last - timeAxis.first") / 2
    assert page.run("[...document.querySelectorAll('.chart')].every((c) => c.matches('.zoomed'))")
    assert not page.run("document.querySelector('[data-whole-run]').hidden")
    page.run("document.querySelector('.plot').focus()")
    page.key("ArrowRight")
    assert page.run("timeAxis.hover !== null")
    page.key("0", text="0")
    assert page.run("timeAxis.from === timeAxis.first && timeAxis.to === timeAxis.last")
    assert page.complaints() == []


@pytest.mark.slow
def test_more_blocks_than_pixels_are_mixed_and_said(browser: Browser, tmp_path: Path) -> None:
    """GIVEN 1.1 M blocks WHEN drawn THEN a dot mixes four, says so, and zoom shows each."""
    run = recorded(
        generate("conversation", seed=2, num_requests=40), EngineConfig(num_blocks=1_100_000), 3
    )
    path = tmp_path / "large.html"
    path.write_bytes(run_html(document_of(*run)))
    page = opened(browser, path)
    assert page.run("kvatlasMap.view.scale") == 0.5
    assert "4 blocks" in page.run("document.getElementById('scale').textContent")
    page.run("kvatlasMap.go(1)")
    columns = int(page.run("kvatlasMap.view.columns"))
    mixed = page.run(
        "(() => { const c = document.getElementById('blocks').getContext('2d');"
        "return [...c.getImageData(0, 0, 1, 1).data]; })()"
    )
    states = [page.run(f"kvatlasMap.frames.state[{b}]") for b in (0, 1, columns, columns + 1)]
    colors = page.run(
        "['--empty', '--evictable', '--used', '--null'].map((n) => getComputedStyle("
        "document.documentElement).getPropertyValue(n).trim())"
    )
    parts = [[int(colors[s][at : at + 2], 16) for at in (1, 3, 5)] for s in states]
    assert mixed[:3] == pytest.approx(np.mean(parts, axis=0), abs=1.01)
    page.mouse("mouseMoved", *place_of(page, 2 * columns + 8))
    assert tip(page)["This dot"].startswith(("4 ", "3 ", "2 ", "1 "))
    page.click(*page.middle("#closer"))
    assert "one block" in page.run("document.getElementById('scale').textContent")
    assert page.complaints() == []
