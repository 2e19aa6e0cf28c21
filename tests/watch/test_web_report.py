"""The report of an engine so far: the report's own page, of what the board knows, as a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, find_chromium
from web_server import EVIL, Engines, Served, played, record, served, wait_for

from kvatlas.report.numbers import percent
from kvatlas.watch.board import Board
from kvatlas.watch.web.report_page import REPORT_POLICY


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("report") / "run.arrows")


@pytest.fixture(scope="module")
def site(recording: Path) -> Iterator[Served]:
    with served(Engines(played(recording, label=f"{EVIL}.arrows"))) as running:
        wait_for(running.hub.newest_key)
        yield running


def test_it_says_what_the_board_knows(site: Served, recording: Path) -> None:
    """GIVEN a recording at its end WHEN its report is asked for THEN its figures are in it."""
    board = Board(played(recording))
    while board.advance():
        pass
    figures = board.figures()
    rate = figures["prefix.token_hit_rate"]
    assert rate is not None
    page = site.ask("/report").text
    assert percent(rate) in page
    assert "<h2>Verdict</h2>" in page and "<h2>Why tokens were missed</h2>" in page
    assert f"so far: after {board.events:,} events" in page
    assert site.ask("/report?engine=e0").text == page


def test_a_moment_before_any_event(recording: Path) -> None:
    feed = played(recording, speed=1.0)
    feed.pause()
    with served(Engines(feed)) as site:
        wait_for(site.hub.newest_key)
        answer = site.ask("/report")
        assert (answer.status, "so far: after" in answer.text) == (200, True)


def test_it_runs_as_a_stranger(site: Served) -> None:
    answer = site.ask("/report")
    assert answer.headers["content-security-policy"] == REPORT_POLICY
    assert REPORT_POLICY.startswith("sandbox allow-scripts;")
    assert "same-origin" not in REPORT_POLICY and "connect-src" not in REPORT_POLICY


def test_names_are_escaped(site: Served) -> None:
    text = site.ask("/report").text
    assert EVIL not in text and "&lt;img src=x" in text


def test_no_engine_no_report(site: Served) -> None:
    assert site.ask("/report?engine=e7").status == 404
    with served(Engines()) as empty:
        wait_for(lambda: empty.hub.waiting_for == "no engine yet")
        answer = empty.ask("/report")
        assert (answer.status, answer.text) == (404, "no engine yet\n")


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
def test_it_opens_and_reaches_nothing(site: Served) -> None:
    """GIVEN the report in a browser WHEN its scripts ran THEN charts live, nothing else."""
    with chromium() as browser:
        page = browser.open(f"{site.address}report")
        assert page.complaints() == []
        assert page.run("window.evil") is None
        assert page.run("timeAxis.last > 0")
        assert page.run("fetch('/metrics').then(() => 'read', () => 'refused')") == "refused"
