"""Watching: a running engine, or a finished recording played, as moments that can be shown.

Owns: sources of events, the board that turns them into moments, and the live views (`top` in a
terminal, `web` in a browser and for Prometheus). Leaves to others: recording (`kvatlas.live`),
measuring (`kvatlas.measure`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.watch.board import Board
    from kvatlas.watch.moment import Moment
    from kvatlas.watch.source import EngineFeed, Playable, Watch
    from kvatlas.watch.watches import open_watch

_HOME = {
    "Board": "board",
    "EngineFeed": "source",
    "Moment": "moment",
    "Playable": "source",
    "Watch": "source",
    "open_watch": "watches",
}

__all__ = ["Board", "EngineFeed", "Moment", "Playable", "Watch", "open_watch"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
