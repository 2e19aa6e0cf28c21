"""All engines, read once a tick, whoever looks; everybody sees the newest moment.

Owns: the rhythm, which engines there are, waking whoever waits. Leaves to others: reading one
(`watched`), sending (`stream`), questions (`app`).

There is no queue anywhere: a tick replaces the moment before it, and a viewer who is slow, or whose
browser sleeps, is given the newest one when it asks again. Numbers are crunched in a thread under
one lock, so that a large pool never keeps the server from answering.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from kvatlas.errors import KvatlasError
from kvatlas.watch.moment import Moment, State
from kvatlas.watch.source import Playable, Watch
from kvatlas.watch.web.watched import OVER, Watched

__all__ = ["CELLS", "EngineEntry", "Hub"]

CELLS = 4096
"""Squares of the page's block map: pools up to this size are shown block by block."""
_MOST_ENGINES = 64
_SCRAPED_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """An engine as the chooser lists it.

    Attributes:
        key: what requests call it.
        trouble: why it cannot be shown, "" while it can.
    """

    key: str
    label: str
    state: State
    trouble: str


class Hub:
    """What all requests share. Memory: a board and a moment per engine that was looked at.

    Attributes:
        interval_s: between two ticks.
        waiting_for: what is waited for while there are no engines.
    """

    def __init__(self, watch: Watch, *, interval_s: float = 1.0, cells: int = CELLS) -> None:
        self.interval_s = interval_s
        self.waiting_for = "reading"
        self._watch, self._cells = watch, cells
        self._engines: dict[int, Watched] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._listed, self._listing = asyncio.Event(), 0
        self._given = 0

    async def start(self) -> None:
        """Tick from now on. Call it in the server's event loop."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop ticking and let go of the files."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._close_watch)

    def close(self) -> None:
        """Let every stream end soon; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    @property
    def closing(self) -> bool:
        """Whether streams should end."""
        return self._closing.is_set()

    def engines(self) -> list[EngineEntry]:
        """Return the engines there are, newest last, as of the last tick."""
        return [
            EngineEntry(engine.key, engine.feed.label, engine.state, engine.trouble)
            for engine in self._engines.values()
        ]

    def newest_key(self) -> str | None:
        """Return the engine to show when none is named: the newest that runs, else the newest."""
        entries = self.engines()
        running = [entry for entry in entries if entry.state not in OVER]
        chosen = (running or entries)[-1:]
        return chosen[0].key if chosen else None

    async def newer(self, key: str, than: int, patience_s: float) -> tuple[int, Moment] | None:
        """Return the newest moment of an engine and its number, once that is above `than`.

        None when nothing new came in `patience_s`, the server ends, there is no such engine, or the
        list of engines changed meanwhile.
        """
        engine = self._find(key)
        if engine is None:
            return None
        if engine.ask():
            await asyncio.to_thread(self._refresh, engine)
        until, listing = time.monotonic() + patience_s, self._listing
        while engine.moment is None or engine.number <= than:
            left_s = until - time.monotonic()
            if left_s <= 0 or self.closing:
                return None
            engine.changed.clear()
            self._listed.clear()
            happens = engine.changed, self._listed, self._closing
            waits = [asyncio.create_task(each.wait()) for each in happens]
            await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self._listing != listing:
                break
        if engine.moment is None or engine.number <= than:
            return None
        return engine.number, engine.moment

    def moments(self) -> list[Moment]:
        """Return a fresh moment, without a map, of the newest engine and each that ran of late.

        For scrapes; takes as long as reading what is new.
        """
        made = []
        with self._lock:
            self._look_around()
            newest, now_s = self.newest_key(), time.monotonic()
            for engine in self._engines.values():
                if engine.key == newest or now_s - engine.ran_s < _SCRAPED_AFTER_S:
                    with engine.kept_going():
                        made.append(engine.scrape())
        return made

    def report(self, key: str) -> bytes | None:
        """Return an engine's report as HTML; None where there is no such engine, or it fails."""
        engine = self._find(key)
        if engine is None:
            return None
        made: list[bytes] = []
        with self._lock, engine.kept_going():
            made.append(engine.report())
        return made[0] if made else None

    def steer(self, key: str) -> Playable | None:
        """Return what moves an engine's time; None where it is not a finished recording."""
        engine = self._find(key)
        if engine is None or not isinstance(engine.feed, Playable):
            return None
        return engine.feed

    async def refresh(self, key: str) -> None:
        """Show an engine as it is now, before the next tick."""
        engine = self._find(key)
        if engine is not None:
            await asyncio.to_thread(self._refresh, engine)

    def _find(self, key: str) -> Watched | None:
        return next((engine for engine in self._engines.values() if engine.key == key), None)

    async def _run(self) -> None:
        try:
            while not self.closing:
                began_s = time.monotonic()
                behind = await asyncio.to_thread(self._tick)
                left_s = 0.0 if behind else self.interval_s - (time.monotonic() - began_s)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), max(0.02, left_s))
        finally:
            self._closing.set()  # no stream goes on without it

    def _tick(self) -> bool:
        """Look at every engine; return whether one has more to read at once."""
        with self._lock:
            self._look_around()
        any_behind = False
        for engine in self._engines.values():
            # One after the other, so that a scrape comes in between.
            with self._lock, engine.kept_going():
                is_new, behind = engine.tick(self._cells)
                any_behind |= behind
                if is_new:
                    self._wake(engine.changed)
        return any_behind

    def _look_around(self) -> None:
        """See which engines came: the newest of them, for a folder keeps many starts."""
        try:
            feeds = self._watch.engines()[-_MOST_ENGINES:]
        except (KvatlasError, OSError) as error:
            self.waiting_for = str(error)
            return
        before, engines = self.engines(), {}
        for feed in feeds:
            engine = self._engines.get(id(feed))
            if engine is None:
                engine = Watched(f"e{self._given}", feed)
                self._given += 1
            engine.look()
            engines[id(feed)] = engine
        self._engines = engines  # in one step: others read it meanwhile
        self.waiting_for = "" if feeds else self._watch.waiting_for()
        if self.engines() != before:
            self._listing += 1
            self._wake(self._listed)

    def _refresh(self, engine: Watched) -> None:
        with self._lock, engine.kept_going():
            engine.refresh(self._cells)
            self._wake(engine.changed)

    def _wake(self, event: asyncio.Event) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(event.set)

    def _close_watch(self) -> None:
        with self._lock:
            self._watch.close()
