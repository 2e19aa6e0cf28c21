"""Playing a finished recording as if its engine were running now.

Owns: `FileFeed`: the clock that is played, pause, speed, steps and seeking. Leaves to others:
reading files (`kvatlas.events`), what the events say (`board`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.events.schema import EVENT, STEP
from kvatlas.watch.cutting import cut, end_of, split_step, whole_stop
from kvatlas.watch.moment import Health, Playback
from kvatlas.watch.source import Source

__all__ = ["FileFeed"]


class FileFeed:
    """A recording at `speed` times its own clock, 0 as fast as it goes.

    The first `poll` reads the recording once, for its length and the requests' names. A step row
    that stands for many steps is handed out as far as the clock has come. When whoever polls cannot
    keep up the clock waits for them.

    Args:
        source: the recording.
        speed: 0 or more.
        label: shown to people.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        speed: float = 1.0,
        label: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label or Path(source.path).name
        self.generation = 0
        self.names: Mapping[int, str] = {}
        self._source, self._speed, self._clock = source, speed, clock
        self._lock = threading.Lock()
        self._surveyed = self._paused = self._done = False
        self._first_ms = self._last_ms = 0.0
        self._partial = ""
        self._position_ms, self._since_s = 0.0, 0.0
        self._seeking, self._steps = False, 0
        self._chunks: Iterator[Chunk] = iter(())
        self._chunk, self._at = Chunk(np.empty(0, EVENT), np.empty(0, np.int32)), 0
        self._given_ms = 0.0

    def header(self) -> Header:
        """Return the recording's header."""
        return self._source.header

    def poll(self, budget_events: int) -> list[Chunk]:
        """Return the events up to where the clock has come, at most about `budget_events`."""
        if not self._surveyed:
            self._survey()
        with self._lock:
            given: list[Chunk] = []
            left = budget_events
            target_ms = self._target_ms()
            while left > 0 and not self._done:
                piece = self._piece(target_ms, left)
                if piece is None:
                    break
                if len(piece.rows):
                    given.append(piece)
                    left -= len(piece.rows)
                    self._given_ms = max(self._given_ms, float(piece.rows["time_ms"][-1]))
                if self._steps == 0 and target_ms == -np.inf:
                    break
            self._settle(behind=left <= 0)
            return given

    def health(self) -> Health:
        """Return whether it plays, and why it is only a part."""
        with self._lock:
            state = "playing" if not self._done else "cut off" if self._partial else "ended"
            return Health(
                state=state,  # type: ignore[arg-type]
                partial=self._partial,
                bytes_on_disk=_size(Path(self._source.path)),
            )

    def memory(self) -> Sequence[Mapping[str, Any]]:
        """Return none: a replay has no process of its own."""
        return ()

    def started_unix_s(self) -> float | None:
        """Return None: the clock of what is played is not today's."""
        return None

    def playback(self) -> Playback:
        """Return where the clock is; the bounds are 0 before the first `poll`."""
        with self._lock:
            position_ms = min(max(self._here_ms(), self._first_ms), self._last_ms)
            if self._done and not self._seeking:
                position_ms = self._last_ms
            return Playback(
                paused=self._paused,
                speed=self._speed,
                position_s=position_ms / 1e3,
                first_s=self._first_ms / 1e3,
                last_s=self._last_ms / 1e3,
            )

    def pause(self, paused: bool = True) -> None:
        """Stand still, or go on from here."""
        with self._lock:
            self._anchor(self._here_ms())
            self._paused, self._steps = paused, 0

    def set_speed(self, speed: float) -> None:
        """Play at `speed` times the recording's clock from here on. Raises: ValueError below 0."""
        if not 0 <= speed < float("inf"):
            raise ValueError(f"speed is {speed}")
        with self._lock:
            self._anchor(self._here_ms())
            self._speed = speed

    def seek(self, time_s: float) -> None:
        """Go to `time_s` of the recording's clock, clamped to it; back begins from its start.

        As fast as it goes it would be away at once, so there it stands still.
        """
        with self._lock:
            target_ms = 1e3 * time_s
            if self._surveyed:
                target_ms = min(max(target_ms, self._first_ms), self._last_ms)
                if target_ms < self._given_ms:
                    self.generation += 1
                    self._rewind()
            self._anchor(target_ms)
            self._seeking, self._steps = True, 0
            self._paused = self._paused or self._speed == 0

    def step(self) -> None:
        """Go on by one step of the scheduler and stand still."""
        with self._lock:
            self._anchor(self._here_ms())
            self._paused = True
            self._steps += 1

    def _survey(self) -> None:
        """Learn the bounds and the names; one pass over the recording, during which keys work."""
        first_ms, last_ms = np.inf, -np.inf
        for chunk in self._source.chunks():
            if len(chunk.rows):
                first_ms = min(first_ms, float(chunk.rows["time_ms"][0]))
                last_ms = max(last_ms, end_of(chunk.rows))
        with self._lock:
            if first_ms <= last_ms:
                self._first_ms, self._last_ms = first_ms, last_ms
            self.names = dict(self._source.names)
            self._partial = self._source.partial
            self._surveyed = True
            self._rewind()
            self._anchor(min(max(self._position_ms, self._first_ms), self._last_ms))

    def _rewind(self) -> None:
        self._chunks = self._source.chunks()
        self._chunk, self._at = Chunk(self._chunk.rows[:0], self._chunk.ids[:0]), 0
        self._given_ms, self._done = self._first_ms, False

    def _now_ms(self) -> float:
        if self._paused or self._seeking or not self._surveyed:
            return self._position_ms
        passed_ms = 1e3 * self._speed * (self._clock() - self._since_s)
        return min(self._position_ms + passed_ms, self._last_ms)

    def _here_ms(self) -> float:
        """Return where the clock is; as fast as it goes, it is where the events are."""
        runs_free = self._speed == 0 and not self._paused and not self._seeking
        return self._given_ms if runs_free and self._surveyed else self._now_ms()

    def _anchor(self, position_ms: float) -> None:
        self._position_ms, self._since_s = position_ms, self._clock()

    def _target_ms(self) -> float:
        """Return up to which time events are due; -inf for none but a step's."""
        if self._seeking:
            return self._position_ms
        if self._paused:
            return -np.inf
        return np.inf if self._speed == 0 else self._now_ms()

    def _settle(self, *, behind: bool) -> None:
        """Let the clock fit what was handed out."""
        if behind and not self._seeking and self._speed:
            self._anchor(min(self._now_ms(), max(self._given_ms, self._position_ms)))
        elif self._seeking and not behind:
            self._seeking = False
            self._anchor(self._position_ms)

    def _piece(self, target_ms: float, most: int) -> Chunk | None:
        """Return the next events of one chunk up to `target_ms`; None when none are due."""
        while self._at >= len(self._chunk.rows):
            chunk = next(self._chunks, None)
            if chunk is None:
                self._done = True
                return None
            self._chunk, self._at = chunk.copy(), 0
        rows, start = self._chunk.rows, self._at
        if self._steps and target_ms == -np.inf:
            return self._one_step()
        late = rows["time_ms"][start:] > target_ms
        stop = start + int(late.argmax()) if late.any() else len(rows)
        if stop == start:
            return None
        stop = whole_stop(rows, min(stop, start + most))
        part = rows[start:stop]
        spans: NDArray[np.float64] = part["span_ms"] * part["count"]
        ends = part["time_ms"] + spans
        unfinished = (part["event"] == STEP) & (part["count"] > 1) & (ends > target_ms)
        if unfinished.any():
            stop = start + int(unfinished.argmax()) + 1
            row = rows[stop - 1]
            begun = int((target_ms - row["time_ms"]) // row["span_ms"]) + 1
            return self._split(start, stop, begun)
        self._at = stop
        return cut(self._chunk, start, stop)

    def _one_step(self) -> Chunk:
        """Return the events up to the next step's, which counts as wanted; or all of the chunk."""
        rows, start = self._chunk.rows, self._at
        steps = rows["event"][start:] == STEP
        if not steps.any():
            self._at = len(rows)
            return cut(self._chunk, start, len(rows))
        stop = start + int(steps.argmax()) + 1
        self._steps -= 1
        piece = self._split(start, stop, 1)
        self._anchor(max(self._position_ms, end_of(piece.rows)))
        return piece

    def _split(self, start: int, stop: int, begun: int) -> Chunk:
        """Return rows up to the step row before `stop`, with its first `begun` steps only."""
        rows = self._chunk.rows
        if begun >= rows["count"][stop - 1]:
            self._at = stop
            return cut(self._chunk, start, stop)
        piece = cut(self._chunk, start, stop)
        split_step(piece.rows, rows, stop - 1, begun, self._source.header.slot_groups)
        self._at = stop - 1
        return piece


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        return path.stat().st_size
    except OSError:
        return 0
