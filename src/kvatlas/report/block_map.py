"""The block map: every block of the pool at many moments, drawn in the browser.

Owns: its frame in the page, the controls and their names, the data as the scripts read it
(`assets/block_frames.js` unpacks it, `block_view.js` draws, `block_map.js` answers). Leaves to
others: the frames (`kvatlas.measure.frames`), style.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from kvatlas.measure.frames import BlockFrames
from kvatlas.report.chart import Curve, stack, time_unit
from kvatlas.report.numbers import count
from kvatlas.report.page import json_script
from kvatlas.report.plain_text import plain
from kvatlas.report.run_document import RunDocument

__all__ = ["block_map"]

_STACK = (("used", 5), ("evictable", 6), ("empty", 7))
_KEYS = (
    ("Space", "play and pause"),
    ("Home", "first moment"),
    ("End", "last moment"),
    (",", "one moment back"),
    (".", "one on"),
)
_MAP_KEYS = (
    ("← ↑ ↓ →", "from block to block"),
    ("+", "closer"),
    ("−", "farther"),
    ("0", "whole pool"),
    ("Enter", "show only this owner"),
    ("Esc", "show all"),
)


def block_map(document: RunDocument) -> Iterator[str]:
    """Yield heading, time bar and map; without frames, a sentence.

    The time bar stays in sight as long as the element around it all.
    """
    yield '<h2 id="map">Block map</h2>'
    frames = document.frames
    if frames is None:
        yield '<p class="sub">No moments of the pool were kept for this report.</p>'
        return
    blocks = count(frames.num_blocks)
    yield (
        f'<p class="sub">All {blocks} blocks of the pool in the order of their ids, row by row. '
        "Move the time to see requests come and go. A healthy pool is full: of blocks in use and "
        "of cached ones that a later request may hit. Worry when almost all are in use for long. "
        "Neighbours with different owners are normal: any free block serves, so scattered blocks "
        "slow nothing down in the pool itself. They cost only where blocks are moved or offloaded, "
        "and with huge pages.</p>"
    )
    if frames.thinned:
        yield f'<p class="sub">{escape(frames.thinned)}</p>'
    yield from _time_bar(document, frames)
    yield _CANVAS
    keys = "".join(f"<span><kbd>{key}</kbd> {what}</span> " for key, what in _KEYS)
    map_keys = "".join(f"<span><kbd>{key}</kbd> {what}</span> " for key, what in _MAP_KEYS)
    yield (
        f'<details class="keys"><summary>Keys</summary><p><b>Time</b> {keys}</p>'
        f"<p><b>Map</b> (click it or <kbd>Tab</kbd> to it) {map_keys}</p></details>"
    )
    yield json_script("frames", _data(frames))


_CANVAS = """
<div class="tools">
<span role="group" aria-label="Colour by">Colour by
<button id="by-state" aria-pressed="true">state</button>
<button id="by-owner" aria-pressed="false">owner</button></span>
<span role="group" aria-label="Zoom"><button id="closer" aria-label="Closer">+</button>
<button id="farther" aria-label="Farther">−</button>
<button id="fit">Whole pool</button></span>
<span id="scale"></span></div>
<div class="legend" id="map-legend"></div>
<div id="map-box"><canvas id="blocks" tabindex="0" role="application"
aria-label="Block map: arrow keys move from block to block, plus and minus zoom"></canvas>
<noscript><p>The map and the charts' readings need JavaScript.</p></noscript>
<div id="tip" hidden></div><p id="map-message" hidden></p></div>
<p class="said" id="said" role="status" aria-live="polite"></p>
"""


def _time_bar(document: RunDocument, frames: BlockFrames) -> Iterator[str]:
    last = len(frames) - 1
    yield (
        '<div class="scrub" id="scrub"><button id="play" aria-label="Play">▶</button>'
        '<button id="back" aria-label="One moment back">‹</button>'
        '<button id="on" aria-label="One moment on">›</button><div class="track">'
    )
    series = document.series
    if series.end_s.size > 1 and all(name in series.columns for name, _ in _STACK):
        curves = [Curve(name, series.columns[name], color, "stack") for name, color in _STACK]
        yield stack(series.start_s, series.end_s, curves)
    yield (
        f'<input type="range" id="moment" min="0" max="{last}" value="{last // 2}" step="1" '
        'aria-label="Moment"></div><output id="when" for="moment"></output></div>'
    )


def _data(frames: BlockFrames) -> dict[str, object]:
    span_s = frames.start_s + frames.tick_s * frames.ticks[-1]
    per_unit, unit = time_unit(span_s)
    return {
        "blocks": frames.num_blocks,
        "requests": frames.num_requests,
        "hasNull": frames.has_null,
        "start": frames.start_s,
        "tick": frames.tick_s,
        "ticks": list(frames.ticks),
        "wideKeys": frames.wide_keys,
        "hasKeys": frames.has_keys,
        "hasTimes": frames.has_times,
        "perUnit": per_unit,
        "unit": unit,
        "names": [plain(name) for name in frames.names],
        "streams": {
            name: base64.b64encode(data).decode("ascii") for name, data in frames.streams.items()
        },
    }
