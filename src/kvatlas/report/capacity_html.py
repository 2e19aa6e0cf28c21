"""What pages about capacity have in common: their head, notes, facts, and the window's title.

Owns: that HTML. Leaves to others: the sections (`curve_html`, `policies_html`), style and scripts
(`page`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from kvatlas.report.curve_facts import partial_line
from kvatlas.report.page import page
from kvatlas.report.replay_facts import Fact

__all__ = ["ASSETS", "capacity_page", "html_facts", "html_head", "html_settings", "side_by_side"]

ASSETS = ("curve.css",)
"""What a page with a chart over capacity needs besides the common assets."""


def capacity_page(title: str, version: str, sections: Iterable[Iterable[str]]) -> bytes:
    """Return a whole page."""
    body = "".join(part for section in sections for part in section)
    footer = f"<footer>kvatlas {escape(version)}</footer>"
    return page(title, f'<div class="capacity-page">{body}{footer}</div>', assets=ASSETS)


def html_head(title: str, under: str, sentences: Iterable[str], partial: str) -> Iterator[str]:
    """Yield title, subtitle and what to read first."""
    if partial:
        yield f'<p class="alarm">{escape(partial_line(partial))}</p>'
    yield f'<h1>{escape(title)}</h1><p class="sub">{escape(under)}</p>'
    for sentence in sentences:
        yield f'<p class="lead">{escape(sentence)}</p>'


def html_facts(facts: Iterable[Fact], notes: Iterable[str]) -> Iterator[str]:
    """Yield the sentences at the end, and what a user must know."""
    yield '<section class="facts"><h2>Facts</h2><dl>'
    for fact in facts:
        yield f'<dt>{escape(fact.label)}</dt><dd class="{fact.tone}">{escape(fact.text)}</dd>'
    yield "</dl>"
    for note in notes:
        yield f'<p class="sub">{escape(note)}</p>'
    yield "</section>"


def side_by_side(*parts: Iterable[str]) -> Iterator[str]:
    """Yield parts beside each other where there is room; those that are empty take none."""
    shown = [text for text in map("".join, parts) if text]
    if shown:
        yield f'<div class="side-by-side">{"".join(f"<div>{text}</div>" for text in shown)}</div>'


def html_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings, folded."""
    rows = "".join(
        f"<tr><td><code>{escape(str(name))}</code></td>"
        f'<td class="n">{escape(_plain(value))}</td></tr>'
        for name, value in config.items()
    )
    yield (
        "<details><summary>Settings</summary>"
        f'<table class="numbers"><tbody>{rows}</tbody></table></details>'
    )


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value[:20])) + (", …" if len(value) > 20 else "")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
