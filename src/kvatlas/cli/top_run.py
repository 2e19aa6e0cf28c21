"""`kvatlas top`: what it does.

Owns: checking the flags and the terminal, one screen for those without, the exit code. Leaves to
others: the app (`kvatlas.watch.top`), what is watched (`kvatlas.watch.source`).
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.watch.source import Watch

__all__ = ["TopFlags", "run_top"]

INTERRUPTED = 130
_SHORTEST_S, _LONGEST_S = 0.05, 3600.0
_ONCE_LINES = 40


@dataclass(frozen=True, slots=True)
class TopFlags:
    """What was asked for."""

    run: str
    speed: float | None = None
    interval_s: float = 1.0
    ascii: bool = False
    once: bool = False


def run_top(flags: TopFlags) -> int:
    """Show until the user leaves; return the exit code. Raises: InputError naming the flag."""
    if not (math.isfinite(flags.interval_s) and _SHORTEST_S <= flags.interval_s <= _LONGEST_S):
        raise InputError(
            f"must be {_SHORTEST_S} to {_LONGEST_S:,.0f} seconds",
            field="--interval",
            value=flags.interval_s,
        )
    if not flags.once:
        _require_terminal()
    from kvatlas.watch.watches import open_watch

    speed = 0.0 if flags.once and flags.speed is None and _is_file(flags.run) else flags.speed
    watch = open_watch(flags.run, speed)
    try:
        if flags.once:
            _print_once(watch, flags)
            return 0
        return _run_app(watch, flags)
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    finally:
        watch.close()


def _is_file(path: str) -> bool:
    from pathlib import Path

    return Path(path).is_file()


def _require_terminal() -> None:
    if find_spec("textual") is None:
        raise InputError(
            "kvatlas top needs Textual",
            remedy="install it with: pip install 'kvatlas[live]', or print a screen with --once",
        )
    # Textual draws on standard error.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise InputError("not a terminal", remedy="print one screen with --once")


def _run_app(watch: Watch, flags: TopFlags) -> int:
    from kvatlas.watch.top.app import TopApp

    app = TopApp(watch, flags.interval_s, ascii_only=flags.ascii or not _speaks_unicode())
    app.run(mouse=False)
    if app.failed is not None:
        raise app.failed
    return app.return_code or 0


def _speaks_unicode() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def _print_once(watch: Watch, flags: TopFlags) -> None:
    """Print what there is now: everything recorded so far is read first."""
    from dataclasses import replace

    from kvatlas.report.console import make_console
    from kvatlas.watch.board import Board
    from kvatlas.watch.source import Playable
    from kvatlas.watch.top.areas import Look
    from kvatlas.watch.top.drawing import cells_wanted, draw

    feeds = watch.engines()
    if not feeds:
        raise InputError(f"nothing to show: {watch.waiting_for()}", file=flags.run)
    console = make_console()
    look = Look(ascii_only=flags.ascii or not _speaks_unicode())
    for feed in feeds:
        look = replace(look, playable=isinstance(feed, Playable))
        board = Board(feed)
        while board.advance():
            pass
        moment = board.moment(cells_wanted(look, console.width, _ONCE_LINES))
        for line in draw(moment, look, console.width, _ONCE_LINES)[:-1]:
            line.rstrip()
            console.print(line, soft_wrap=True)
