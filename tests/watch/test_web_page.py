"""The page and its files: self-contained, and nothing in them makes HTML of what a server sent."""

from __future__ import annotations

import re

import pytest

from kvatlas.watch.web.page import ASSETS, asset, page_html

SCRIPTS = [name for name in ASSETS if name.endswith(".js")]
PAGE = page_html().decode()


def text(name: str) -> str:
    found = asset(name)
    assert found is not None
    return found.data.decode()


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    assert re.findall(r"<script(?! type=\"module\" src=\"/assets/live\.js\">)", PAGE) == []
    assert "<style" not in PAGE
    assert re.findall(r" (style|on\w+)=", PAGE) == []


def test_the_page_loads_what_is_served_and_nothing_else() -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', PAGE)
    assert {path.removeprefix("/assets/") for path in loaded if path.startswith("/assets/")} <= set(
        ASSETS
    )
    assert {path for path in loaded if not path.startswith("/assets/")} == {
        "/report",
        "/metrics",
        "/api/moment",
    }


@pytest.mark.parametrize("name", list(ASSETS))
def test_no_file_reaches_out(name: str) -> None:
    """GIVEN a file of the page WHEN read THEN it names no other place."""
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text(name))
    assert set(found) <= {"http://www.w3.org"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_write_text_never_html(name: str) -> None:
    banned = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
              "new Function", "DOMParser", "createContextualFragment", ".setHTML")  # fmt: skip
    assert [word for word in banned if word in text(name)] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_imports_are_served(name: str) -> None:
    for path in re.findall(r"from '\./([\w.]+)'", text(name)):
        assert path in ASSETS


def test_everything_that_scripts_look_for_is_there() -> None:
    wanted = {found for name in SCRIPTS for found in re.findall(r"\$\('([\w-]+)'\)", text(name))}
    there = re.findall(r' id="([\w-]+)"', PAGE)
    assert len(wanted) > 20
    assert wanted <= set(there)
    assert len(there) == len(set(there))


def test_fields_that_scripts_read_are_those_of_a_moment() -> None:
    """GIVEN the charts' columns WHEN compared THEN a moment's history has them all."""
    from kvatlas.watch.moment import History

    columns = re.findall(r"column: '(\w+)'", text("live.js"))
    assert len(columns) > 8
    assert set(columns) <= set(History.__struct_fields__)


def test_unknown_names_are_no_files() -> None:
    for name in ("../page.py", "", "live.py", "page.css\0", "/etc/passwd"):
        assert asset(name) is None
