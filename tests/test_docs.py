"""The documentation says what is: commands, flags, names and outputs in it are checked.

`make test` also builds the site with warnings as errors (links, anchors, included files).
"""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from docs.tables import TABLES, find_command, on_page_markdown

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:`|^::: )(kvatlas(?:\.\w+)+)", re.MULTILINE)


def fences(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield the code blocks of a language with the lines on which they start."""
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        if fence["language"] == language:
            yield text.count("\n", 0, fence.start()) + 1, fence["body"]


def shown(page: Path) -> str:
    """Return a page's name as test ids show it."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if any(fences(page, "pycon"))], ids=shown)
def test_sessions_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN the sessions of a page WHEN they are typed in order THEN they answer as shown
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for line, body in fences(page, "pycon"):
        test = doctest.DocTestParser().get_doctest(body, names, shown(page), str(page), line)
        report: list[str] = []
        failed, tried = doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)
        names = test.globs
        assert tried > 0
        assert failed == 0, "".join(report)


@cache
def commands() -> list[tuple[str, list[str]]]:
    """Return every kvatlas command line of the pages, as words."""
    found = []
    for page in PAGES:
        for line, body in (*fences(page, "sh"), *fences(page, "console")):
            for text in body.splitlines():
                words = shlex.split(text.removeprefix("$ "), comments=True)
                if words[:1] == ["kvatlas"]:
                    found.append((f"{shown(page)}:{line}: {text}", words[1:]))
    return found


def test_every_command_and_flag_exists() -> None:
    assert len(commands()) > 10
    for where, words in commands():
        path: list[str] = []
        while words and words[0] in getattr(find_command(path), "commands", {}):
            path.append(words.pop(0))
        assert path, where
        known = {opt for p in find_command(path).params for opt in (*p.opts, *p.secondary_opts)}
        own = words[: words.index("--")] if "--" in words else words  # behind it: another program's
        given = {word.split("=")[0] for word in own if word.startswith("--")}
        assert given - known == set(), where


def test_every_command_has_its_table() -> None:
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    tables = set(re.findall(r"<!-- table: flags ([\w -]+) -->", text))

    def leaves(path: tuple[str, ...]) -> Iterator[str]:
        inside = getattr(find_command(path), "commands", None)
        if inside is None:
            yield " ".join(path)
        for name in inside or ():
            yield from leaves((*path, name))

    assert tables == set(leaves(()))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_name_can_be_imported(page: Path) -> None:
    for name in sorted(set(_NAME.findall(page.read_text(encoding="utf-8")))):
        parts = name.split(".")
        for split in range(len(parts), 0, -1):
            try:
                found: object = import_module(".".join(parts[:split]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[split:]:
                assert hasattr(found, attribute), f"{shown(page)}: {name}"
                found = getattr(found, attribute)
            break


def test_every_table_of_every_page_is_made() -> None:
    used = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        used |= set(re.findall(r"<!-- table: ([\w-]+)", text))
        assert "<!-- table:" not in on_page_markdown(text)
    assert used == set(TABLES)


def test_readme_points_at_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_picture_is_small_and_stands_alone() -> None:
    picture = (DOCS / "assets" / "report.svg").read_text(encoding="utf-8")
    assert len(picture) < 200_000
    assert "url(http" not in picture
    assert "@font-face" not in picture


def test_included_files_are_included() -> None:
    # A formatter that takes the marker for code makes it a line like any other.
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"--8 *< +--|--8 +<", text), shown(page)
        for target in re.findall(r'^--8<-- "(.+)"$', text, re.MULTILINE):
            assert (ROOT / target).is_file(), f"{shown(page)}: {target}"


def test_no_page_names_this_machine() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert str(ROOT) not in text, page
        assert str(Path.home()) not in text, page
