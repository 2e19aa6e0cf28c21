"""The lines at the top and the bottom: which engine, which moment, which keys.

Owns: their words. Leaves to others: what the keys do (`app`).
"""

from __future__ import annotations

import time

from rich.text import Text

from kvatlas.report.numbers import count, seconds
from kvatlas.report.plain_text import plain
from kvatlas.watch.moment import Moment
from kvatlas.watch.top.areas import Look

__all__ = ["key_line", "playback_line", "tab_line", "title_line"]

_STATE_STYLES = {
    "live": "green",
    "playing": "green",
    "quiet": "",
    "ended": "dim",
    "cut off": "bold red",
}


def title_line(moment: Moment, look: Look, width: int) -> Text:
    """Return whose memory this is and how it is; the clock stands at the right."""
    health = moment.health
    state = "unreadable" if health.fault else health.state
    right = Text("  ")
    loud = state.upper() if state in ("cut off", "unreadable") else state
    right.append(loud, style=_STATE_STYLES.get(state, "bold red"))
    right.append(f"  {_clock(moment)}  step {count(moment.step)}")
    left = Text()
    left.append("kvatlas top", style="bold")
    left.append(f"  {_short(moment.engine)}")
    left.append(f"  {plain(moment.version, 16)}", style="dim")
    left.truncate(max(0, width - right.cell_len), overflow="ellipsis", pad=True)
    return left.append_text(right)


def _short(label: str) -> str:
    """Return an engine's folder without the time of its start: the processes tell them apart."""
    parts = label.split("-")
    if len(parts) == 4 and parts[0] == "engine":
        return plain(f"engine {parts[1]}, pid {parts[3]}", 32)
    return plain(label, 32)


def _clock(moment: Moment) -> str:
    """Return the time of the moment: of day where it is known, else on the engine's clock."""
    if moment.wall_unix_s is None:
        return seconds(moment.time_s)
    return time.strftime("%H:%M:%S", time.localtime(moment.wall_unix_s))


def tab_line(look: Look, width: int) -> Text:
    """Return the engines, the selected one in brackets and in sight."""
    line = Text()
    shown = list(enumerate(look.tabs))
    while len(shown) > 1 and sum(len(_short(tab)) + 7 for _, tab in shown) > width:
        # Drop whatever is farther from the selected one.
        shown.pop(0 if look.selected - shown[0][0] > shown[-1][0] - look.selected else -1)
    if shown[0][0] > 0:
        line.append("< ", style="dim")
    for at, tab in shown:
        name = f"{at + 1} {_short(tab)}"
        if at == look.selected:
            line.append(f"[{name}] ", style="bold reverse")
        else:
            line.append(f" {name}  ", style="dim")
    if shown[-1][0] < len(look.tabs) - 1:
        line.append(">", style="dim")
    return line


def playback_line(moment: Moment, look: Look, width: int) -> Text:
    """Return where the recording is being played."""
    playback = moment.playback
    if playback is None:
        return Text()
    span_s = playback.last_s - playback.first_s
    done = (playback.position_s - playback.first_s) / span_s if span_s > 0 else 1.0
    marks = ("||", "> ") if look.ascii_only else ("‖ ", "▶ ")
    speed = "as fast as it goes" if playback.speed == 0 else f"{playback.speed:g}x"
    text = f"{marks[0] if playback.paused else marks[1]}{speed}  "
    text += f"{seconds(playback.position_s)} of {seconds(playback.last_s)}  "
    columns = max(4, width - len(text))
    filled = min(columns, round(done * columns))
    line = Text(text)
    line.append(("=" if look.ascii_only else "━") * filled, style="cyan")
    line.append(("-" if look.ascii_only else "─") * (columns - filled), style="dim")
    return line


def key_line(look: Look) -> Text:
    """Return the keys that matter here."""
    keys = [("q", "quit"), ("?", "help")]
    if look.playable:
        keys += [("space", "pause"), (".", "step"), ("+-", "speed")]
    if len(look.tabs) > 1:
        keys += [("n p", "engine")]
    keys += [("m r d o", "views"), ("b", "owners" if look.by == "state" else "states")]
    line = Text()
    for key, what in keys:
        line.append(f" {key} ", style="reverse")
        line.append(f" {what} ", style="dim")
    return line
