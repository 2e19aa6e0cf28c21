"""How the lines of a terminal are shared out.

Owns: `Look`, what the user chose to see, and `Areas`, what fits. Leaves to others: drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GUTTER", "LABEL", "METERS", "Areas", "By", "Look", "View", "areas_of"]

View = Literal["overview", "map", "requests", "details"]
By = Literal["state", "owner"]

LABEL = 10
"""Columns of the labels at the left."""
METERS = 7
"""Lines of bars and curves in the overview; the other views have the first three."""
GUTTER = 10
"""Columns of the block ids beside the map."""

_SMALLEST_TEXT = 34
_MAP_SHARE = 0.55
_MOST_ALERTS = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen.

    Attributes:
        view: the overview, or one thing in full.
        by: what a cell of the map shows.
        ascii_only: no other characters.
        tabs: the engines' labels; `selected`: the one that is shown.
        playable: whether there is a line for the playback.
        note: a remark of the moment, such as why nothing is shown yet.
    """

    view: View = "overview"
    by: By = "state"
    ascii_only: bool = False
    tabs: tuple[str, ...] = ()
    selected: int = 0
    playable: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Areas:
    """Lines and columns; the title and the keys have one line each.

    Attributes:
        meters: lines of bars and curves; `graph`: columns of one.
        alerts: lines, kept free while there are none so that nothing jumps.
        map_rows, map_columns: of cells, without heading and ids.
        requests: rows of the table, without its heading.
        body: lines for everything below the alerts.
    """

    meters: int
    graph: int
    alerts: int
    map_rows: int
    map_columns: int
    requests: int
    body: int


def areas_of(look: Look, width: int, height: int) -> Areas:
    """Share out a terminal. What does not fit goes from the bottom up; nothing is negative."""
    top = 1 + (len(look.tabs) > 1) + look.playable
    meters = max(0, min(METERS if look.view == "overview" else 3, height - 1 - top))
    alerts = max(0, min(_MOST_ALERTS if height >= 34 else 2, height - 1 - top - meters - 8))
    body = max(0, height - 1 - top - meters - alerts)
    columns = max(8, width - GUTTER)
    columns -= columns % 8
    map_rows = requests = 0
    if look.view == "map":
        map_rows = max(0, body - 2)
    elif look.view == "requests":
        requests = max(0, body - 1)
    elif look.view == "overview" and body >= 3:
        map_rows = body - 2 if body < 6 else round((body - 3) * _MAP_SHARE)
        requests = max(0, body - 3 - map_rows)
    return Areas(
        meters=meters,
        graph=max(8, width - LABEL - _SMALLEST_TEXT - 2),
        alerts=alerts,
        map_rows=map_rows,
        map_columns=columns,
        requests=requests,
        body=body,
    )
