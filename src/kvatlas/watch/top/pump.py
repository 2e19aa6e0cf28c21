"""The thread that reads events and makes moments, so that keys are answered while it works.

Owns: which engine is shown, switching to a restarted server's, when to look again. Leaves to
others: the screen (`app`), what a moment is (`kvatlas.watch.board`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kvatlas.errors import InputError
from kvatlas.watch.board import Board
from kvatlas.watch.moment import Moment
from kvatlas.watch.source import EngineFeed, Playable, Watch

__all__ = ["Pump", "Shown"]

_SLICE_S = 0.25
"""A moment is shown this often while there is much to catch up."""
_SLICE_EVENTS = 20_000
_OVER = ("ended", "cut off")
GETTING_READY = "getting ready; the first time on a machine this compiles for some 20 s"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the screen is to show.

    Attributes:
        moment: None while there is nothing yet; then `note` says what is waited for.
        tabs: labels of all engines; `selected`: the one shown.
        playable: whether time can be moved.
        waits: whether a server is waited for.
    """

    moment: Moment | None = None
    tabs: tuple[str, ...] = ()
    selected: int = 0
    playable: bool = False
    note: str = ""
    waits: bool = False


class Pump:
    """Looks at a watch every `interval_s`, and at once when woken.

    Args:
        watch: what to look at.
        interval_s: between two looks, seconds.
        on_shown: called from the pump's thread with each new state.
        on_failed: called with what ended the thread, if anything did.
    """

    def __init__(
        self,
        watch: Watch,
        interval_s: float,
        on_shown: Callable[[Shown], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._watch, self._interval_s = watch, interval_s
        self._on_shown, self._on_failed = on_shown, on_failed
        self._boards: dict[int, tuple[EngineFeed, Board]] = {}
        self._feeds: list[EngineFeed] = []
        self._selected: EngineFeed | None = None
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvatlas-top", daemon=True)
        self.cells = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End soon; never waits long."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        self._watch.close()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def select(self, offset: int) -> None:
        """Show the engine `offset` places after the one shown, around the end."""
        feeds = self._feeds
        if feeds:
            self._selected = feeds[(self._place(feeds) + offset) % len(feeds)]
            self.wake()

    def select_at(self, place: int) -> None:
        """Show the engine at `place`, if there is one."""
        if place < len(self._feeds):
            self._selected = self._feeds[place]
            self.wake()

    def player(self) -> Playable | None:
        """Return the feed shown if its time can be moved."""
        return self._selected if isinstance(self._selected, Playable) else None

    def look(self) -> Shown:
        """Look once: find engines, catch up for a while, and return what there is."""
        self._find()
        feed = self._selected
        if feed is None:
            return Shown(note=self._watch.waiting_for(), waits=True)
        self._catch_up()
        return self._shown(feed)

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._wake.clear()
                self._find()
                if self._selected is not None and not self._boards:
                    self._on_shown(self._unread(self._selected, GETTING_READY))
                shown = self.look()
                if self._closed.is_set():
                    return
                self._on_shown(shown)
                if not self._behind:
                    self._wake.wait(self._interval_s)
        except BaseException as error:
            self._on_failed(error)

    def _find(self) -> None:
        feeds = self._watch.engines()
        new = [feed for feed in feeds if feed not in self._feeds]
        self._feeds = feeds
        if self._selected not in feeds:
            self._selected = None
        gone = self._selected is not None and self._selected.health().state in _OVER
        if new and (self._selected is None or gone):
            # A server that was started again records into a folder of its own.
            running = [feed for feed in new if feed.health().state not in _OVER]
            self._selected = (running or new)[-1]

    def _place(self, feeds: list[EngineFeed]) -> int:
        return feeds.index(self._selected) if self._selected in feeds else 0

    def _board(self, feed: EngineFeed) -> Board:
        known = self._boards.get(id(feed))
        if known is None:
            known = self._boards[id(feed)] = (feed, Board(feed))
        return known[1]

    def _catch_up(self) -> None:
        """Read what is new: all of the engine shown first, then of others that run."""
        until_s = time.monotonic() + _SLICE_S
        self._behind = False
        shown = self._selected
        others = [feed for feed in self._feeds if feed is not shown and self._runs(feed)]
        for feed in ([shown] if shown is not None else []) + others:
            board = self._board(feed)
            while (taken := board.advance(_SLICE_EVENTS)) > 0:
                late = time.monotonic() > until_s or self._closed.is_set()
                if late or self._wake.is_set():
                    self._behind = taken >= _SLICE_EVENTS or self._behind
                    break

    def _runs(self, feed: EngineFeed) -> bool:
        return feed.health().state not in _OVER and not isinstance(feed, Playable)

    def _shown(self, feed: EngineFeed) -> Shown:
        try:
            moment = self._board(feed).moment(self.cells)
        except InputError as error:
            return self._unread(feed, str(error))
        return Shown(
            moment=moment,
            tabs=tuple(each.label for each in self._feeds),
            selected=self._place(self._feeds),
            playable=isinstance(feed, Playable),
        )

    def _unread(self, feed: EngineFeed, note: str) -> Shown:
        return Shown(
            tabs=tuple(each.label for each in self._feeds),
            selected=self._place(self._feeds),
            playable=isinstance(feed, Playable),
            note=note,
        )

    _behind = False
