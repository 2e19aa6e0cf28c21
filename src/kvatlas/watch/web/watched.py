"""One engine as the server holds it: its feed, its board since somebody needed it, its moment.

Owns: reading in slices, when there is a new moment to show, and going on when reading fails.
Leaves to others: when it is asked (`hub`), figures (`kvatlas.watch.board`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvatlas.watch.board import BUDGET_EVENTS, Board
from kvatlas.watch.moment import Moment, State
from kvatlas.watch.source import EngineFeed, Playable
from kvatlas.watch.web.report_page import report_html

__all__ = ["OVER", "Watched"]

OVER: tuple[State, ...] = ("ended", "cut off")
_LOOKED_AWAY_S = 60.0
_REPORT_FRESH_S = 5.0
_SLICE_S = 0.2


class Watched:
    """Its methods but `ask` are called by one thread at a time.

    Attributes:
        key: what requests call it.
        state: as of the last look.
        moment, number: the newest that was made for pages, and how many there were.
        changed: set when there is another one.
        ran_s: when it was last seen running, monotonic.
        trouble: why it cannot be shown, "" while it can.
    """

    def __init__(self, key: str, feed: EngineFeed) -> None:
        self.key, self.feed = key, feed
        self.state: State = "quiet"
        self.moment: Moment | None = None
        self.number = 0
        self.changed = asyncio.Event()
        self.ran_s = -1e9
        self.trouble = ""
        self._board: Board | None = None
        self._report: bytes | None = None
        self._report_s = 0.0
        self._asked_s = -1e9

    def ask(self) -> bool:
        """Note that somebody looks; return whether nobody did for a while."""
        before_s, self._asked_s = self._asked_s, time.monotonic()
        return self._asked_s - before_s > _LOOKED_AWAY_S

    def look(self) -> None:
        """See how it is."""
        self.state = self.feed.health().state
        if self.state not in OVER:
            self.ran_s = time.monotonic()

    def tick(self, cells: int) -> tuple[bool, bool]:
        """Read what is new, and make a moment if somebody looks and it would differ.

        What was over before anybody looked is not read: a folder keeps many starts.

        Returns: whether there is a new moment, and whether there is more to read at once.
        """
        looked_at = time.monotonic() - self._asked_s < _LOOKED_AWAY_S
        if not looked_at and self.state in OVER:
            return False, False
        taken, behind = self._read()
        if not looked_at or (taken == 0 and self._stands_still()):
            return False, behind
        self._show(cells)
        return True, behind

    def refresh(self, cells: int) -> None:
        """Read what is new and make a moment."""
        self._read()
        self._show(cells)

    def scrape(self) -> Moment:
        """Read what is new and return a moment without a map."""
        self._read()
        return self._boarded().moment()

    def report(self) -> bytes:
        """Return the report of all that was recorded so far; made anew after a while."""
        now_s = time.monotonic()
        if self._report is None or now_s - self._report_s > _REPORT_FRESH_S:
            self._read()
            self._report, self._report_s = report_html(self._boarded()), now_s
        return self._report

    @contextmanager
    def kept_going(self) -> Iterator[None]:
        """Say what goes wrong with this engine, and let the others go on."""
        try:
            yield
        except Exception as error:  # a monitor that stops is worse than one that says so
            text = f"{type(error).__name__}: {error}"
            if text != self.trouble:
                logging.getLogger("uvicorn.error").exception("reading %s", self.feed.label)
            self.trouble = text
        else:
            self.trouble = ""

    def _read(self) -> tuple[int, bool]:
        until, all_taken = time.monotonic() + _SLICE_S, 0
        while True:
            taken = self._boarded().advance()
            all_taken += taken
            if taken < BUDGET_EVENTS or time.monotonic() > until:
                return all_taken, taken >= BUDGET_EVENTS

    def _show(self, cells: int) -> None:
        self.moment = self._boarded().moment(cells=cells)
        self.state = self.moment.health.state
        self.number += 1

    def _boarded(self) -> Board:
        if self._board is None:
            self._board = Board(self.feed)
        return self._board

    def _stands_still(self) -> bool:
        """Return whether it is over, or paused, as it was when its moment was made."""
        shown = self.moment
        if shown is None or self.feed.health().state != shown.health.state:
            return False
        if isinstance(self.feed, Playable):
            return self.feed.playback() == shown.playback
        return shown.health.state in OVER
