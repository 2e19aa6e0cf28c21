"""Pages taken apart: tags that match, nothing loaded, the text and the data in it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

_VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Fails on tags that do not match; collects text, data, and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.scripts = 0
        self.json: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and data.startswith("{"):
            self.json.append(json.loads(data))
        elif self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def checked(page: bytes) -> tuple[str, Checker]:
    """Return a page and what is in it; its tags match and it loads nothing."""
    html = page.decode()
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.loaded == checker.handlers == []
    assert len(set(checker.ids)) == len(checker.ids)
    return html, checker
