"""Where a view's events come from: engines that run, or recordings that are played.

Owns: the contract between sources and the board. Leaves to others: the sources (`playing`,
`following`), which of them a path is (`watches`), what the events say (`board`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from kvatlas.events import Chunk, Header
from kvatlas.watch.moment import Health, Playback

__all__ = ["EngineFeed", "Playable", "Source", "Watch"]


class EngineFeed(Protocol):
    """One engine's events, however they come. Asked by one thread at a time."""

    @property
    def label(self) -> str:
        """Shown to people; tells engines of one watch apart."""

    @property
    def generation(self) -> int:
        """Changes when the events begin anew: more room was needed, or somebody moved back in time.

        The `poll` that changed it, or the next one, gives the first event again.
        """

    @property
    def names(self) -> Mapping[int, str]:
        """Requests' own ids by row, as far as they are known."""

    def header(self) -> Header:
        """Return what holds for all events of this generation."""

    def poll(self, budget_events: int) -> list[Chunk]:
        """Return about `budget_events` raw events that are new, in order; never waits for any.

        A chunk never ends between evictions and the allocation that they belong to. Raises:
        InputError when what was recorded cannot be read.
        """

    def health(self) -> Health:
        """Return how well the recorder and the reader keep up."""

    def memory(self) -> Sequence[Mapping[str, Any]]:
        """Return the monitor's newest samples, oldest first; none where nobody monitors."""

    def started_unix_s(self) -> float | None:
        """Return the Unix time at which the engine's clock was 0; None where that is not known."""


class Source(Protocol):
    """A recording as `open_recording` gives it."""

    path: str
    header: Header
    names: dict[int, str]
    partial: str

    def chunks(self) -> Iterator[Chunk]:
        """Yield all events, from the first one each time."""


@runtime_checkable
class Playable(Protocol):
    """A feed whose time can be moved: a finished recording. Safe to steer from another thread."""

    def playback(self) -> Playback:
        """Return where it is."""

    def pause(self, paused: bool = True) -> None:
        """Stand still, or go on."""

    def set_speed(self, speed: float) -> None:
        """Play at `speed` times its own clock; 0 is as fast as it goes."""

    def seek(self, time_s: float) -> None:
        """Go to a time of the engine's clock, clamped to the recording; back begins anew."""

    def step(self) -> None:
        """Stand still after the next step of the scheduler."""


class Watch(Protocol):
    """What a view looks at: engines that come and go."""

    def engines(self) -> list[EngineFeed]:
        """Return the engines there are now, newest last; an engine keeps its feed."""

    def waiting_for(self) -> str:
        """Say in a line what is waited for while there are no engines."""

    def close(self) -> None:
        """Let go of all files."""
