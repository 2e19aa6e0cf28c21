"""The live page in a real browser: it fills, moves, survives, and runs nobody else's code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page, chromium, find_chromium
from web_server import EVIL, Engines, Served, played, record, served

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("browser") / "run.arrows")


def opened(browser: Browser, site: Served, **window: Any) -> Page:
    page = browser.open(site.address, **window)
    page.wait("!!window.kvatlasLive && kvatlasLive.moment !== null")
    return page


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector('{selector}').textContent"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_without_a_complaint(
    browser: Browser, recording: Path, width: int, dark: bool
) -> None:
    """GIVEN a window, light or dark WHEN the page is opened THEN it fits and nothing is wrong."""
    with served(Engines(played(recording, speed=2.0))) as site:
        page = opened(browser, site, width=width, height=900, dark=dark)
        page.wait("document.querySelectorAll('#charts figure:not([hidden])').length > 5")
        assert page.complaints() == []
        assert page.run("document.documentElement.scrollWidth") <= width
        background = page.run("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is not dark
        assert text(page, "#state") == "playing"


def test_ids_of_requests_are_text(browser: Browser, recording: Path) -> None:
    """GIVEN requests whose ids are HTML WHEN shown everywhere THEN nothing of them runs."""
    feed = played(recording, label=f"<b>{EVIL}.arrows")
    with served(Engines(feed, played(recording, label="other"))) as site:
        feed.pause()
        page = opened(browser, site)
        site.steer(do="seek", to=15.0)
        page.run("(() => { const e = document.getElementById('engines'); e.value = 'e0';"
                 "e.dispatchEvent(new Event('change')); })()")  # fmt: skip
        page.wait("document.querySelectorAll('#tables td.name').length > 3")
        page.run("document.getElementById('by-owner').click()")
        shown = page.run("[...document.querySelectorAll('td.name')].map((e) => e.textContent)")
        assert EVIL in shown
        assert EVIL in text(page, "#title")
        legend = page.run("[...document.querySelectorAll('#map-legend button')].length")
        assert legend > 0
        assert page.run("window.evil") is None
        assert page.run("document.querySelectorAll('main img, main b b').length") == 0
        assert page.complaints() == []


def test_the_policy_blocks_what_is_not_ours(browser: Browser, recording: Path) -> None:
    with served(Engines(played(recording))) as site:
        page = opened(browser, site)
        page.run("(() => { const s = document.createElement('script');"
                 "s.textContent = 'window.evil = 1'; document.body.append(s); })()")  # fmt: skip
        assert page.run("window.evil") is None
        reached = "fetch('http://127.0.0.1:9/').then(() => 'yes', () => 'no')"
        assert page.run(reached) == "no"
        said = " ".join(page.complaints())
        assert "script-src 'self'" in said and "connect-src 'self'" in said


def test_the_figures_are_the_server_s(browser: Browser, recording: Path) -> None:
    with served(Engines(played(recording))) as site:
        page = opened(browser, site)
        page.wait("kvatlasLive.moment.health.state === 'ended'")
        moment = site.ask("/api/moment").json
        cards = page.run(
            "Object.fromEntries([...document.querySelectorAll('#cards .card')].map((e) =>"
            "[e.querySelector('.name').textContent, e.querySelector('b').textContent]))"
        )
        assert cards["Preemptions"] == str(moment["requests"]["preemptions"])
        assert cards["Pool in use"] == f"{100 * moment['pool']['usage']:.1f}%"
        assert cards["Evicted blocks"] == f"{moment['evictions']['total']:,}"
        history = page.run("kvatlasLive.history")
        assert history == moment["history"]


def test_the_map_is_read_with_the_keyboard(browser: Browser, recording: Path) -> None:
    """GIVEN the map WHEN arrows move its cursor THEN the block under it is told."""
    with served(Engines(played(recording))) as site:
        page = opened(browser, site)
        page.wait("kvatlasLive.moment.health.state === 'ended'")
        page.run("document.getElementById('blocks').focus()")
        page.key("ArrowRight")
        assert "Block 0" in text(page, "#said") and "null block" in text(page, "#said")
        page.key("ArrowRight")
        assert "Block 1" in text(page, "#said")
        codes = page.run("kvatlasLive.moment.cells.codes")
        words = {"#": "in use", "=": "cached", ".": "empty"}
        assert words[codes[1]] in text(page, "#said")


def test_a_recording_is_steered(browser: Browser, recording: Path) -> None:
    """GIVEN a recording that plays WHEN paused and moved THEN everybody stands there."""
    with served(Engines(played(recording, speed=1.0))) as site:
        page = opened(browser, site)
        page.run("document.getElementById('play').click()")
        page.wait("document.getElementById('state').textContent === 'paused'")
        assert site.ask("/api/moment").json["playback"]["paused"]
        page.run(
            "(() => { const e = document.getElementById('seek'); e.value = 500;"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); })()"
        )
        last_s = page.run("kvatlasLive.moment.playback.last_s")
        page.wait(f"Math.abs(kvatlasLive.moment.time_s - {last_s / 2}) < {0.1 * last_s}")
        step = page.run("kvatlasLive.moment.step")
        page.run("document.getElementById('step').click()")
        page.wait(f"kvatlasLive.moment.step === {step + 1}")
        assert site.ask("/api/moment").json["step"] == step + 1
        page.run("document.activeElement.blur()")
        page.key(" ", text=" ")
        page.wait("document.getElementById('state').textContent === 'playing'")
        assert page.complaints() == []


def test_what_is_over_is_played_again(browser: Browser, recording: Path) -> None:
    with served(Engines(played(recording))) as site:
        page = opened(browser, site)
        page.wait("document.getElementById('play').getAttribute('aria-label') === 'Play again'")
        over_s = page.run("kvatlasLive.moment.time_s")
        page.run("document.getElementById('play').click()")
        page.wait("document.getElementById('state').textContent === 'playing'")
        page.wait(f"kvatlasLive.moment.time_s < {over_s / 2}")
        assert site.ask("/api/moment").json["playback"]["speed"] == 1


def test_a_page_that_nobody_sees_does_not_listen(browser: Browser, recording: Path) -> None:
    """GIVEN an open page WHEN it goes to the background and back THEN it stops and catches up."""
    with served(Engines(played(recording, speed=1.0))) as site:
        page = opened(browser, site)
        opened(browser, site)
        page.wait("document.hidden && kvatlasLive.source.readyState === EventSource.CLOSED")
        before_s = page.run("kvatlasLive.moment.time_s")
        page.call("Page.bringToFront")
        page.wait(f"kvatlasLive.moment.time_s > {before_s}")
        assert text(page, "#state") == "playing"


def test_the_page_comes_back_after_the_server(browser: Browser, recording: Path) -> None:
    """GIVEN an open page WHEN the server is restarted THEN it says so, and goes on by itself."""
    with served(Engines(played(recording))) as site:
        port = site.port
        page = opened(browser, site)
        page.wait("kvatlasLive.moment.health.state === 'ended'")
    page.wait("document.getElementById('state').textContent === 'connection lost'")
    shown = text(page, "#cards")
    with served(Engines(played(recording, label="after the restart")), port=port):
        page.wait("kvatlasLive.moment.engine === 'after the restart'")
        page.wait("document.getElementById('state').textContent === 'ended'")
        assert text(page, "#cards") == shown


def test_an_engine_that_starts_later_appears(browser: Browser, recording: Path) -> None:
    engines = Engines()
    with served(engines) as site:
        page = browser.open(site.address)
        page.wait("document.getElementById('facts').textContent === 'no engine yet'")
        assert page.run("document.getElementById('all').hidden") is True
        engines.feeds.append(played(recording, label="one"))
        page.wait("!!kvatlasLive.moment && kvatlasLive.moment.engine === 'one'")
        engines.feeds.append(played(recording, speed=1.0, label="two"))
        page.wait("kvatlasLive.moment.engine === 'two'")
        assert page.run("document.getElementById('engines').children.length") == 2
        page.run(
            "(() => { const e = document.getElementById('engines'); e.value = 'e0';"
            "e.dispatchEvent(new Event('change')); })()"
        )
        page.wait("!!kvatlasLive.moment && kvatlasLive.moment.engine === 'one'")


def test_the_token_is_asked_for_once(browser: Browser, recording: Path) -> None:
    """GIVEN a server with a token WHEN it is typed in THEN the page opens, and opens again."""
    with served(Engines(played(recording)), token="open-sesame-open-sesame") as site:
        page = browser.open(site.address)
        page.run("document.querySelector('input').value = 'wrong'")
        page.run("document.querySelector('button').click()")
        page.wait("document.querySelector('.alarm') !== null")
        page.run("document.querySelector('input').value = 'open-sesame-open-sesame'")
        page.run("document.querySelector('button').click()")
        page.wait("!!window.kvatlasLive && kvatlasLive.moment !== null")
        assert page.run("location.href") == site.address
        again = browser.open(site.address)
        again.wait("!!window.kvatlasLive && kvatlasLive.moment !== null")
        linked = browser.open(f"{site.address}?token=open-sesame-open-sesame")
        linked.wait("!!window.kvatlasLive && kvatlasLive.moment !== null")
        assert "token" not in linked.run("location.href")
