"""The report on a snapshot as one self-contained HTML page: facts first, then any moment of it.

Owns: what stands where, the controls and their names. Leaves to others: sentences and tables
(`device_report_words`), the data behind the pictures (`device_pack`), drawing
(`assets/device_*.js`), style (`assets/device.css`, `run.css`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from kvatlas.report.device_report_document import DeviceReportDocument
from kvatlas.report.device_report_words import (
    facts,
    notes,
    pinners_table,
    sentences,
    warning,
)
from kvatlas.report.device_words import subtitle
from kvatlas.report.numbers import count
from kvatlas.report.page import json_script, page
from kvatlas.report.plain_text import plain
from kvatlas.report.text_table import html_table
from kvatlas.units import counted, format_bytes

__all__ = ["device_report_html"]

_SCRIPTS = (
    "data", "moment", "palette", "timeline", "map", "flame", "words", "tips", "controls", "page",
)  # fmt: skip
ASSETS = ("run.css", "curve.css", "device.css", *(f"device_{name}.js" for name in _SCRIPTS))
_SHOWN_FAILURES = 6
_LONGEST_PROSE = 4000
_SERIES = (
    ("allocated", 0, "in use"),
    ("waiting", 1, "waits for another stream"),
    ("stuck", 2, "free, stuck"),
    ("releasable", 3, "free, releasable"),
    ("idle", 4, "free in private pools"),
    ("reserved", 5, "reserved"),
)


def device_report_html(document: DeviceReportDocument, data: Mapping[str, Any]) -> bytes:
    """Return the page: some 60 kB, and 3 to 8 MB for each million of events.

    `data`: what `device_pack.device_data` returned.
    """
    sections = (
        _top(document),
        ('<div class="timed">', *_time(document, data), *_memory(), *_flame(document), "</div>"),
        html_table(pinners_table(document, 20)),
        _facts(document),
        (f"<footer>kvatlas {escape(document.version)}</footer>",),
    )
    body = "".join(part for section in sections for part in section)
    return page(f"{document.path}: device memory", body, assets=ASSETS)


def _top(document: DeviceReportDocument) -> Iterator[str]:
    if warning(document):
        yield f'<p class="alarm">{escape(warning(document))}</p>'
    yield f"<h1>{_safe(document.path)}</h1>"
    yield f'<p class="sub">{_safe(subtitle(document.found.recorded, document.settings))}</p>'
    for sentence in sentences(document):
        yield f'<p class="lead">{_safe(sentence)}</p>'
    for note in notes(document):
        yield f'<p class="sub">{_safe(note[:1].upper() + note[1:])}</p>'
    yield '<p id="device-message" class="alarm" hidden></p>'


def _time(document: DeviceReportDocument, data: Mapping[str, Any]) -> Iterator[str]:
    shown = document.shown
    what = counted(len(shown), "event")
    if not document.whole:
        what = (
            f"events {count(shown.start)} to {count(shown.stop - 1)} "
            f"of {count(document.found.recorded.events)}"
        )
    yield f"<h2>Over the events <small>{escape(what)}</small></h2>"
    yield (
        '<p class="sub">Who has the reserved bytes; below, the stuck ones by themselves, to a '
        "scale of their own. Each column shows the fullest of its events. Click to choose the "
        "moment that the map and the flame graph show; drag to zoom in, double-click to see "
        'everything. <button id="whole-time" hidden>All events</button></p>'
    )
    yield from _jumps(document)
    yield '<div class="legend" id="time-legend">'
    for name, number, text in _SERIES:
        yield f'<span class="key k{number}"><i class="sw"></i>{text} <b id="now-{name}"></b></span>'
    yield '<span class="key k6"><i></i>out of memory</span>'
    yield '<span class="key k7"><i></i>memory went back</span>'
    yield '<span class="at" id="read-at"></span></div>'
    yield (
        '<div class="times"><div class="levels" id="time-labels"></div>'
        '<div class="levels" id="stuck-labels"></div>'
        '<div id="time-box" tabindex="0" role="application" aria-label="Timeline: arrow keys move '
        'from event to event, plus and minus zoom, n and p go to the next and previous mark">'
        '<canvas id="timeline"></canvas><canvas id="stuck-line"></canvas>'
        '<div class="band" id="time-band"></div><div class="cursor" id="time-cursor"></div>'
        '<div class="pin" id="time-pin"></div></div>'
        '<div id="time-axis"></div></div>'
    )
    yield (
        '<div class="scrub" id="scrub"><button id="back" aria-label="One event back">‹</button>'
        '<button id="on" aria-label="One event on">›</button><div class="track">'
        '<canvas id="overview"></canvas><input type="range" id="event" min="0" max="0" step="1" '
        f'data-start="{document.found.moment.event}" aria-label="Event"></div>'
        '<output id="when" for="event"></output></div><p id="happened"></p>'
    )
    yield json_script("device", data)


def _jumps(document: DeviceReportDocument) -> Iterator[str]:
    """Yield a button for every moment worth a look that the pictures show."""
    buttons = []
    for failure in document.found.failures[:_SHOWN_FAILURES]:
        text = f"OOM: {format_bytes(failure.asked_bytes)} asked"
        buttons.append((failure.event, text, ' class="alarm"'))
    for peak in document.found.peaks:
        text = f"most {peak.name}: {format_bytes(peak.nbytes)}"
        buttons.append((peak.event, text, ""))
    shown = [one for one in buttons if one[0] in document.shown]
    if shown:
        yield '<div class="jumps">'
        for event, text, look in shown:
            yield f'<button{look} data-event="{event}">{escape(text)}</button>'
        yield "</div>"


def _memory() -> Iterator[str]:
    yield (
        '<h2>Memory at this moment</h2><p class="sub">All addresses that anything ever had, one '
        "region behind the other, row below row; gaps between regions are left out. Point at "
        "memory to see what it is and who asked for it, click to keep that in view.</p>"
        '<div class="tools"><span role="group" aria-label="Colour by">Colour by '
        '<button id="by-state" aria-pressed="true">state</button> '
        '<button id="by-stack" aria-pressed="false">stack</button></span>'
        '<span role="group" aria-label="Zoom"><button id="closer" aria-label="Closer">+</button> '
        '<button id="farther" aria-label="Farther">−</button> '
        '<button id="fit">All memory</button></span>'
        '<span id="only" hidden>Only below <b id="only-name"></b> '
        '<button id="only-none">show all</button></span><span id="map-scale"></span></div>'
        '<div class="legend">'
    )
    for _, number, text in _SERIES[:5]:
        yield f'<span class="key k{number}"><i class="sw"></i>{text}</span>'
    yield '<span class="key k9"><i class="sw"></i>not PyTorch\'s at this moment</span></div>'
    yield (
        '<div id="memory-box"><canvas id="memory" tabindex="0" role="application" '
        'aria-label="Map of device memory: arrow keys move from piece to piece, plus and minus '
        'zoom"></canvas><noscript><p>The pictures need JavaScript.</p></noscript>'
        '<div id="memory-tip" hidden></div></div>'
        '<div id="kept-box" hidden><button id="kept-close" aria-label="Close">×</button>'
        '<div id="kept"></div></div>'
        '<p class="said" id="said" role="status" aria-live="polite"></p>'
    )


def _flame(document: DeviceReportDocument) -> Iterator[str]:
    yield (
        "<h2>By stack at this moment</h2>"
        '<p class="sub">The outermost calls on top. Stuck bytes are divided evenly among the '
        "stacks whose blocks pin the segment, for it goes back only when all of them let go. "
        "Click a call to see only what is below it, and its blocks in the map.</p>"
        '<div class="tools"><span role="group" aria-label="Weigh by">Weigh by '
        '<button id="flame-held" aria-pressed="true">bytes held</button> '
        '<button id="flame-stuck" aria-pressed="false">bytes kept stuck</button></span>'
        '<span role="group" aria-label="Calls">Calls '
        '<button id="flame-telling" aria-pressed="true">that tell something</button> '
        '<button id="flame-full" aria-pressed="false">all</button></span>'
        '<button id="flame-all" hidden>All stacks</button></div>'
        '<div id="flame-box"><canvas id="flame" tabindex="0" role="application" '
        'aria-label="Flame graph: arrow keys move from call to call, Enter zooms"></canvas>'
        '<div id="flame-tip" hidden></div></div>'
        '<h3 id="ranks-title">Stacks that hold most</h3>'
        '<div class="scroll"><table id="ranks"><thead><tr><th class="right">bytes</th>'
        '<th class="right">share</th><th class="right">blocks</th><th>stack</th></tr></thead>'
        '<tbody></tbody></table></div><p class="sub" id="ranks-none" hidden>None.</p>'
        '<details class="keys"><summary>Keys</summary>'
        "<p><b>Timeline, slider</b> <span><kbd>←</kbd> <kbd>→</kbd> an event, with "
        "<kbd>Shift</kbd> ten</span> <span><kbd>PgUp</kbd> <kbd>PgDn</kbd> a fiftieth</span> "
        "<span><kbd>Home</kbd> <kbd>End</kbd></span> <span><kbd>n</kbd> <kbd>p</kbd> next and "
        "previous mark</span> <span><kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> zoom</span></p>"
        "<p><b>Map</b> <span><kbd>←</kbd> <kbd>→</kbd> from piece to piece</span> "
        "<span><kbd>↑</kbd> <kbd>↓</kbd> scroll</span> <span><kbd>+</kbd> <kbd>−</kbd> "
        "<kbd>0</kbd> or <kbd>Ctrl</kbd> and the wheel: zoom</span> <span><kbd>Enter</kbd> keep "
        "in view</span> <span><kbd>Esc</kbd> let go</span></p>"
        "<p><b>Flame graph</b> <span><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> move</span> "
        "<span><kbd>Enter</kbd> only this call</span> <span><kbd>Esc</kbd> all</span></p></details>"
    )


def _facts(document: DeviceReportDocument) -> Iterator[str]:
    yield '<section class="facts"><h2>Facts</h2><dl>'
    for label, text in facts(document):
        yield f"<dt>{escape(label)}</dt><dd>{_safe(text)}</dd>"
    yield "</dl></section>"


def _safe(text: str) -> str:
    """Return prose for the page: a name in it can neither be markup nor turn the line around."""
    return escape(plain(text, _LONGEST_PROSE))
