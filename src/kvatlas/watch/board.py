"""`Board`: one engine's events become a moment that can be shown, again and again.

Owns: feeding, beginning anew, the slow figures on demand. Leaves to others: sources (`source`),
what a moment is made of (`picture`), its shape (`moment`), looks (`top`, `web`).
"""

from __future__ import annotations

import threading

import msgspec

from kvatlas.errors import InputError
from kvatlas.events import Header, PoolState
from kvatlas.measure import Figures, RunMeasurement
from kvatlas.watch.alerts import AlertBook
from kvatlas.watch.gauges import Sight
from kvatlas.watch.moment import Health, Moment
from kvatlas.watch.picture import moment_of
from kvatlas.watch.source import EngineFeed, Playable
from kvatlas.watch.tally import LiveTally

__all__ = ["Board"]

BUDGET_EVENTS = 200_000
"""Of one `advance`, so that a view that has much to catch up still shows something now and then."""


class Board:
    """Follows one engine. Its methods may be called from several threads.

    Memory: that of `RunMeasurement` and `PoolState`, and some 120 kB. Cost: theirs, and some 50 ns
    per block id more; a moment is O(blocks + requests), some 17 ms for 100,000 blocks.

    Args:
        feed: whose events.
    """

    def __init__(self, feed: EngineFeed) -> None:
        self.feed = feed
        self._lock = threading.RLock()
        self._generation = feed.generation
        self._fault = ""
        self._begin()

    @property
    def header(self) -> Header:
        """The header of the events so far."""
        return self._header

    @property
    def events(self) -> int:
        """Events taken in so far."""
        return self._state.events

    @property
    def time_s(self) -> float:
        """The engine's clock at the last of them."""
        return self._state.time_ms / 1e3

    @property
    def measured(self) -> RunMeasurement:
        """All analysers of the events so far; ask them only while nobody advances."""
        return self._measured

    def advance(self, budget_events: int = BUDGET_EVENTS) -> int:
        """Take in what is new, about `budget_events` at most; return how many there were.

        Less than the budget: it is up to date. A recording that cannot be read stops here, and the
        health of all further moments says why.
        """
        with self._lock:
            if self._fault and self._generation == self.feed.generation:
                return 0
            taken = 0
            try:
                chunks = self.feed.poll(budget_events)
                if self.feed.generation != self._generation:
                    self._generation, self._fault = self.feed.generation, ""
                    self._begin()
                for chunk in chunks:
                    for piece in self._state.resolver.pieces(chunk):
                        self._state.apply(piece)
                        self._measured.feed(piece)
                        self._tally.feed(piece)
                    taken += len(chunk.rows)
            except InputError as error:
                self._fault = _without_place(error)
            return taken

    def moment(
        self,
        cells: int = 0,
        *,
        blocks: tuple[int, int] | None = None,
        figures: bool = False,
    ) -> Moment:
        """Return how things stand; O(blocks + requests).

        Args:
            cells: at most so many of the block map; 0 leaves it out.
            blocks: the part `[first, stop)` of the pool that the map shows, all by default.
            figures: put every figure of the metrics page in, O(requests log requests + keys).
        """
        with self._lock:
            sight = Sight(
                header=self._header,
                state=self._state,
                tally=self._tally,
                pollution=self._measured.pollution,
                feed=self.feed,
                health=self.health(),
                generation=self._generation,
                book=self._book,
            )
            sheet = self._measured.figures() if figures else Figures()
            playback = self.feed.playback() if isinstance(self.feed, Playable) else None
            return moment_of(sight, sheet, playback, cells, blocks)

    def health(self) -> Health:
        """Return the feed's health, and why reading stopped if it did."""
        health = self.feed.health()
        if not self._fault:
            return health
        return msgspec.structs.replace(health, fault=self._fault)

    def figures(self) -> Figures:
        """Return every figure by its name, with the reason for each that is not there."""
        with self._lock:
            return self._measured.figures()

    def _begin(self) -> None:
        self._header = self.feed.header()
        self._state = PoolState(self._header, self.feed.label)
        self._measured = RunMeasurement(self._header)
        self._tally = LiveTally(self._header)
        self._book = AlertBook()


def _without_place(error: InputError) -> str:
    """Return what is wrong; where is said beside it, and often long."""
    return str(InputError(error.what, field=error.field, value=error.value, remedy=error.remedy))
