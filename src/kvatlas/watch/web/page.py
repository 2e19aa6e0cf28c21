"""The page's skeleton and its files: a fixed table, so that no request ever names a file.

Owns: what stands where, and which files may be asked for. Leaves to others: filling it
(`assets/live.js`, which writes whatever came from a server as text, never as HTML), the look that
it shares with reports (`kvatlas.report`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

import kvatlas

__all__ = ["ASSETS", "Asset", "asset", "page_html"]

_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
_PICTURE = "image/svg+xml"

ASSETS = {
    "icon.svg": ("kvatlas.watch.web", _PICTURE),
    "page.css": ("kvatlas.report", _STYLE),
    "run.css": ("kvatlas.report", _STYLE),
    "live.css": ("kvatlas.watch.web", _STYLE),
    "live.js": ("kvatlas.watch.web", _SCRIPT),
    "live_chart.js": ("kvatlas.watch.web", _SCRIPT),
    "live_map.js": ("kvatlas.watch.web", _SCRIPT),
    "live_parts.js": ("kvatlas.watch.web", _SCRIPT),
}
"""Every file that is served: its name, the package whose `assets` hold it, its type."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file's content, its media type and a tag that changes with the content."""

    data: bytes
    type: str
    tag: str


@cache
def asset(name: str) -> Asset | None:
    """Return a file of the table, None for any other name."""
    known = ASSETS.get(name)
    if known is None:
        return None
    package, kind = known
    data = (files(package) / "assets" / name).read_bytes()
    return Asset(data, kind, f'"{hashlib.sha256(data).hexdigest()[:20]}"')


def page_html() -> bytes:
    """Return the page: nothing in it depends on what is watched."""
    styles = "".join(
        f'<link rel="stylesheet" href="/assets/{name}">' for name in ASSETS if name.endswith("css")
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>kvatlas</title><link rel="icon" href="/assets/icon.svg">{styles}'
        '<script type="module" src="/assets/live.js"></script></head>'
        f"<body><main>{_BODY}<footer>kvatlas {escape(kvatlas.__version__)} · "
        '<a href="/metrics">metrics</a> · <a href="/api/moment">this moment as JSON</a></footer>'
        "</main></body></html>\n"
    )
    return html.encode()


_BODY = """
<header class="watched"><h1><span>kvatlas</span> <b id="title">waiting</b></h1>
<span id="state" class="state" role="status">connecting</span>
<label id="chooser" hidden>Engine <select id="engines"></select></label></header>
<p class="sub" id="facts"></p>
<noscript><p class="alarm">This page needs its scripts to be live.</p></noscript>
<p class="alarm" id="trouble" role="alert" hidden></p>
<ul class="alerts" id="alerts" aria-label="Alerts" aria-live="polite"></ul>
<div class="scrub" id="player" hidden><button id="play" aria-label="Pause"></button>
<button id="step" aria-label="One step on">›</button>
<div class="track"><input type="range" id="seek" min="0" max="1000" step="1" value="0"
aria-label="Moment of the run"></div>
<label>Speed <select id="speed"></select></label><output id="clock" for="seek"></output></div>
<div id="all" hidden>
<div class="cards" id="cards"></div>
<p class="sub">What to make of it: <a id="report" href="/report">the report so far</a>, with the
verdict, why tokens were missed, and every figure.</p>
<section><h2>Every block <small id="scale"></small></h2>
<div class="tools"><span>Colour
<button id="by-state" aria-pressed="true">state</button>
<button id="by-owner" aria-pressed="false">owner</button></span>
<span class="keys">Point at the map to read it; with the keyboard: <kbd>Tab</kbd> to it,
<kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> to move.</span></div>
<div class="legend" id="map-legend"></div>
<div id="map-box"><canvas id="blocks" tabindex="0" role="img"
aria-label="The blocks of the pool in the order of their ids"></canvas><div id="tip" hidden></div>
</div><div class="said" id="said" aria-live="polite"></div></section>
<section><h2>Over time <small id="span-of"></small></h2>
<div class="tools" id="spans">Show</div><div class="charts" id="charts"></div></section>
<section><h2>Who and what</h2><div class="tables" id="tables"></div></section>
<section><h2>Recorder and process</h2><div class="columns" id="health"></div></section>
</div>
"""
