"""What can be seen of a recording: its figures, and whether the twin agrees with it.

Owns: reading recordings as users do. Leaves to others: making them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from process_site import SOURCES

from kvatlas.cli.verify_run import run_verify
from kvatlas.events.live.folders import engine_folders
from kvatlas.watch.board import BUDGET_EVENTS, Board
from kvatlas.watch.following import LiveFeed
from kvatlas.watch.moment import Moment
from kvatlas.watch.watches import FolderWatch

LONGEST_WAIT_S = 180.0


def seen(folder: Path) -> Moment:
    """Return the last moment of the one engine that recorded into a folder."""
    (engine,) = engine_folders(folder)
    board = Board(LiveFeed(engine))
    read_all(board)
    return board.moment()


def read_all(board: Board) -> None:
    """Read until there is nothing new. Beginning anew, for more room, is a read of nothing."""
    generation = -1
    while board.advance() or board.feed.generation != generation:
        generation = board.feed.generation
        assert board.health().fault == ""


@dataclass(frozen=True)
class Verified:
    """What `kvatlas verify` said."""

    calls: int
    identical: bool
    text: str


def kvatlas(*arguments: str) -> list[str]:
    """Return the command line of kvatlas, run from the sources."""
    start = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); "
    run = "from kvatlas.cli.__main__ import main; sys.argv[0] = 'kvatlas'; sys.exit(main())"
    return [sys.executable, "-c", start + run, *arguments]


def verified(folder: Path) -> Verified:
    """Return what `kvatlas verify` says of the recordings of a folder."""
    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "verify.json"
        run_verify(str(folder), None, str(path))
        said = json.loads(path.read_text())
    return Verified(said["calls"], said["identical"], str(said["first_divergence"]))


class Viewer:
    """A view of a folder, kept open in a thread: every engine's board, read on every `interval_s`.

    Args:
        budget_events: of one look; few make a viewer that falls behind.
    """

    def __init__(
        self, folder: Path, *, interval_s: float = 0.2, budget_events: int = BUDGET_EVENTS
    ) -> None:
        self.boards: dict[str, Board] = {}
        self.error: BaseException | None = None
        self._watch = FolderWatch(folder)
        self._interval_s, self._budget_events = interval_s, budget_events
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def wait_for(self, what: Callable[[list[Moment]], bool]) -> list[Moment]:
        """Wait until what is seen of the engines, oldest first, is as described; return it."""
        waited_s = 0.0
        while not what(moments := self.moments()):
            assert self.error is None, self.error
            assert not any(moment.health.fault for moment in moments), moments[-1].health
            assert waited_s < LONGEST_WAIT_S, [(one.health, one.requests) for one in moments]
            waited_s += 0.1
            threading.Event().wait(0.1)
        return moments

    def moments(self) -> list[Moment]:
        """Return how every engine stands, oldest first."""
        return [board.moment() for board in list(self.boards.values())]

    def close(self) -> None:
        """Stop looking. Raises: what went wrong while looking."""
        self._stopping.set()
        self._thread.join(30)
        if self.error is not None:
            raise self.error

    def _look(self) -> None:
        try:
            while not self._stopping.is_set():
                for feed in self._watch.engines():
                    board = self.boards.setdefault(feed.label, Board(feed))
                    board.advance(self._budget_events)
                self._stopping.wait(self._interval_s)
        except BaseException as error:
            self.error = error
