"""Following an engine while it records.

Owns: the state of an engine as seen from its recording, how old its newest event is. Leaves to
others: reading segments (`kvatlas.events.live`), which engines there are (`watches`).
"""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kvatlas.events import Chunk, Header
from kvatlas.watch.moment import Health, State

if TYPE_CHECKING:
    from kvatlas.events.live.follow import Follower

__all__ = ["LiveFeed"]

_QUIET_S = 3.0
"""An engine that runs has a step more often than this, or nothing to do."""
_KEPT_SAMPLES = 60
_WORDS_PER_EVENT = 4


class LiveFeed:
    """An engine that records into `folder`, or did.

    Args:
        folder: of the engine.
        clock: seconds, monotonic; `wall`: Unix time.

    Raises: InputError when the folder is no engine's.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        from kvatlas.events.live.follow import Follower
        from kvatlas.events.live.memory import MemoryFollower

        self.folder, self.label = folder, folder.name
        self._follower: Follower = Follower(folder)
        self._samples = MemoryFollower(folder)
        self._memory: deque[dict[str, Any]] = deque(maxlen=_KEPT_SAMPLES)
        self._started_unix_s = _number(self._follower.facts.live.get("started_unix_s"))
        facts = self._follower.facts.live
        here = facts.get("host") == platform.node()
        self._pid = int(_number(facts.get("pid")) or 0) if here else 0
        self._clock, self._wall = clock, wall
        self._events = 0
        self._age_s, self._seen_s = 0.0, clock()

    @property
    def generation(self) -> int:
        """Changes when the recording needed more room, or lost what was not read yet."""
        return self._follower.generation

    @property
    def names(self) -> Mapping[int, str]:
        """Requests' own ids by row."""
        return self._follower.names

    def header(self) -> Header:
        """Return the header, which grows with the recording."""
        return self._follower.header

    def poll(self, budget_events: int) -> list[Chunk]:
        """Return what is new; `budget_events` is a rough bound."""
        behind_bytes = -1
        # Also when no words are new: what the recorder loses meanwhile stands in the head. And what
        # was read may be no whole step yet, or the events may begin anew.
        while not (chunks := self._follower.poll(_WORDS_PER_EVENT * budget_events)):
            if self._follower.behind_bytes in (0, behind_bytes):
                break
            behind_bytes = self._follower.behind_bytes
        new = sum(len(chunk.rows) for chunk in chunks)
        if new:
            self._events += new
            self._age_s, self._seen_s = self._wall_age_s(), self._clock()
        return chunks

    def health(self) -> Health:
        """Return how the engine, its recorder and this reader are."""
        follower = self._follower
        age_s = self._age_s + self._clock() - self._seen_s
        state = self._state(age_s)
        return Health(
            state=state,
            lost_events=follower.lost_events,
            lost_segments=follower.lost_segments,
            errors=follower.errors,
            last_error=follower.last_error,
            bytes_on_disk=follower.bytes_on_disk,
            bytes_bound=follower.bytes_bound,
            age_s=age_s if state in ("live", "quiet") else None,
            lag_events=self._events * follower.behind_bytes // max(1, follower.read_bytes),
            partial=_partial(follower),
        )

    def memory(self) -> Sequence[Mapping[str, Any]]:
        """Return the monitor's newest samples, oldest first."""
        self._memory += [msgspec.to_builtins(sample) for sample in self._samples.poll()]
        return list(self._memory)

    def started_unix_s(self) -> float | None:
        """Return when the engine's clock was 0."""
        return self._started_unix_s

    def _wall_age_s(self) -> float:
        """Return how old the newest event is; a wall clock that was set says nothing: 0."""
        if self._started_unix_s is None:
            return 0.0
        age_s = self._wall() - self._started_unix_s - self._follower.last_event_ms / 1e3
        return age_s if age_s > 0 else 0.0

    def _state(self, age_s: float) -> State:
        if self._follower.ended:
            return "ended"
        if age_s < _QUIET_S or self._follower.behind_bytes:
            return "live"
        return "quiet" if _alive(self._pid) else "cut off"


def _number(value: object) -> float | None:
    """Return a fact that is a number; a header's facts may be anything."""
    return float(value) if isinstance(value, int | float) else None


def _partial(follower: Follower) -> str:
    lacks = []
    if follower.lost_segments:
        lacks.append(f"its first {follower.lost_segments:,} segments were dropped")
    if follower.facts.sample < 1:
        lacks.append(f"{100 * follower.facts.sample:g}% of the steps are recorded, in windows")
    elif follower.gaps:
        lacks.append(f"{follower.gaps:,} stretches are missing")
    if follower.disagreements:
        lacks.append(f"{follower.disagreements:,} checkpoints contradict the events before them")
    return "; ".join(lacks)


def _alive(pid: int) -> bool:
    """Say whether a process runs; one whose number is not known is taken to."""
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
