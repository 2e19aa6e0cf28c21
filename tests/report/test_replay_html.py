"""The page: one file, valid, escaped, nothing from a network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from documents import document, refused, series

from kvatlas.report.replay_html import replay_html

_VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Fails on tags that do not match; collects text and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self.json: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and data.startswith("{"):
            self.json.append(json.loads(data))
        elif self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def checked(**changes: Any) -> tuple[str, Checker]:
    page = replay_html(document(**changes))
    assert len(page) < 1_000_000
    html = page.decode()
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return html, checker


def test_one_file_that_loads_nothing() -> None:
    html, checker = checked()
    assert checker.loaded == []
    assert not re.search(r"https?:|@import|url\(", html)
    assert "prefers-color-scheme:dark" in html
    assert "width=device-width" in html


def test_says_the_same_as_the_terminal() -> None:
    _, checker = checked()
    text = " ".join(" ".join(checker.text).split())
    for said in ("14.38%", "7,779,494 cached blocks", "every decision", "kvatlas 9.8.7"):
        assert said in text


def test_charts_hold_every_interval() -> None:
    _, checker = checked()
    assert len(checker.json) == 5
    for data in checker.json:
        assert len(data["end"]) == 50
        assert all(len(values) == 50 for values in data["values"])
    hit_rate = checker.json[3]
    assert hit_rate["values"][1][3] is None


@pytest.mark.parametrize("intervals", [0, 1])
def test_a_run_too_short_to_draw_says_so(intervals: int) -> None:
    for short in (None, series(intervals)):
        _, checker = checked(series=short)
        assert checker.json == []
        assert "nothing to draw" in " ".join(checker.text)


def test_text_from_a_trace_stays_text() -> None:
    evil = "</script><img src=x onerror=alert(1)>&\udcff"
    html, checker = checked(
        workload={"name": evil, "requests": 1, "notes": [evil]}, notes=(evil,), partial=True
    )
    assert "<img" not in html
    assert checker.loaded == []
    assert "onerror" in " ".join(checker.text)


def test_unknown_blocked_and_refused() -> None:
    _, checker = checked(
        unknown=("prefix.token_hit_rate", "usage.time_weighted", "latency.ttft_p50_s"),
        blocked=refused(),
        never_served=(refused(),),
    )
    text = " ".join(checker.text)
    assert "nobody could know" in text
    assert "blocked for ever by request 11" in text
    assert len(checker.json) == 4  # no hit rate, no chart of it
