"""A moment as lines of text that fit a terminal exactly.

Owns: which parts stand where. Leaves to others: each part (`meters`, `map_part`, `tables`), keys
and refreshing (`app`).
"""

from __future__ import annotations

from rich.text import Text

from kvatlas.report.plain_text import plain
from kvatlas.watch.moment import Moment
from kvatlas.watch.top.areas import Areas, Look, areas_of
from kvatlas.watch.top.headings import key_line, playback_line, tab_line, title_line
from kvatlas.watch.top.map_part import map_lines
from kvatlas.watch.top.meters import alert_lines, meter_lines
from kvatlas.watch.top.tables import detail_lines, request_lines

__all__ = ["cells_wanted", "draw", "draw_waiting"]

_SPELLED = {"…": "~", "µ": "u", "·": "."}


def cells_wanted(look: Look, width: int, height: int) -> int:
    """Return how many cells of the block map `draw` can show."""
    areas = areas_of(look, width, height)
    return areas.map_rows * areas.map_columns


def draw(moment: Moment, look: Look, width: int, height: int) -> list[Text]:
    """Return `height` lines of at most `width` columns."""
    areas = areas_of(look, width, height)
    lines = [title_line(moment, look, width)]
    if len(look.tabs) > 1:
        lines.append(tab_line(look, width))
    if look.playable:
        lines.append(playback_line(moment, look, width))
    lines += meter_lines(moment, look, areas)[: areas.meters]
    lines += alert_lines(moment, width, areas.alerts)
    lines += _body(moment, look, areas, width)[: areas.body]
    return _fit(lines, look, width, height)


def draw_waiting(look: Look, width: int, height: int, *, server: bool) -> list[Text]:
    """Return the screen while there is nothing to show; `server`: one is waited for."""
    lines = [Text("kvatlas top", style="bold"), Text()]
    if server:
        lines += [
            Text(f"Waiting for a server: {plain(look.note, 400)}"),
            Text(),
            Text("Start one that records, in another terminal:", style="dim"),
            Text("  kvatlas record DIR -- vllm serve MODEL"),
        ]
    else:
        lines.append(Text(plain(look.note[:1].upper() + look.note[1:], 400)))
    return _fit(lines, look, width, height)


def _body(moment: Moment, look: Look, areas: Areas, width: int) -> list[Text]:
    if look.view == "details":
        return detail_lines(moment, look, width)
    if look.view == "requests":
        return request_lines(moment, look, width, areas.requests)
    lines = map_lines(moment, look, areas)
    if areas.requests:
        # A small pool needs fewer rows than there are; how many does not change from tick to tick.
        lines.append(Text())
        lines += request_lines(moment, look, width, areas.body - len(lines) - 1)
    return lines


def _fit(lines: list[Text], look: Look, width: int, height: int) -> list[Text]:
    """Crop and fill up, the keys at the very bottom."""
    lines = lines[: max(0, height - 1)]
    lines += [Text()] * (height - 1 - len(lines))
    lines.append(key_line(look))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
        if look.ascii_only:
            # One for one, so that styles stay where they are.
            line.plain = "".join(ch if ch.isascii() else _SPELLED.get(ch, "?") for ch in line.plain)
    return lines[:height]
