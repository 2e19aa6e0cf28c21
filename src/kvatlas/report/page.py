"""The shell of a report page: one file, no network, light and dark, wide and narrow.

Owns: putting style and scripts (`assets/`) into the page, and escaping of the title and of data.
Leaves to others: what is on the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["json_script", "page"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the browser may do with the page: run and draw what is in it, load nothing."""


def page(title: str, body: str, *, assets: Sequence[str] = ()) -> bytes:
    """Return a whole page.

    Args:
        title: for the window.
        body: HTML that its maker has escaped.
        assets: names of further styles and scripts of `assets/`, after the common ones.
    """
    names = ("page.css", "page.js", *assets)
    style = "".join(_asset(name) for name in names if name.endswith(".css"))
    script = "".join(_asset(name) for name in names if name.endswith(".js"))
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main>"
        f"<script>{script}</script></body></html>\n"
    )
    # A file name may hold bytes that are no text; they become question marks.
    return html.encode("utf-8", errors="replace")


def json_script(name: str, value: Any) -> str:
    """Return `value` as JSON that a script finds by its id; text in it cannot end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def _asset(name: str) -> str:
    return (files("kvatlas.report") / "assets" / name).read_text("utf-8")
