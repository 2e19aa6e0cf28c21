"""Where our own time goes: stages of a command, with the compiling of kernels taken out.

Owns: wall-clock stages and the compile clock. Leaves to others: which stages there are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvatlas.jit import COMPILED

__all__ = ["Stopwatch", "mark_start"]

_marked: list[float] = []


def mark_start() -> None:
    """Note that the process begins its work now; the next stopwatch counts from here."""
    _marked[:] = [time.perf_counter()]


class Stopwatch:
    """Seconds per stage since the process's start (or its own, where that was not marked).

    Kernels that are not on disk yet are compiled at their first call, in the middle of whichever
    stage that is. Once `watch_compiler` was called, that time is booked under `compile_s` only.
    """

    def __init__(self) -> None:
        self._started = _marked.pop() if _marked else time.perf_counter()
        self.stages: dict[str, float] = {}
        self._compiler = _CompileClock()

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._compiler.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`."""
        before = time.perf_counter() - self.compile_s
        try:
            yield
        finally:
            spent = time.perf_counter() - self.compile_s - before
            self.stages[name] = self.stages.get(name, 0.0) + spent

    def startup_is_over(self) -> None:
        """Book everything so far under `startup_s`."""
        self.stages["startup_s"] = self.total_s - self.compile_s

    def watch_compiler(self) -> None:
        """Watch the compiler from now on; imports Numba, unless kernels are not compiled."""
        if COMPILED:
            self._compiler.watch()

    @property
    def compile_s(self) -> float:
        """Seconds spent compiling kernels; 0 when all came from the cache on disk."""
        return self._compiler.seconds

    @property
    def total_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started


class _CompileClock:
    """Adds up the outermost compilations that Numba announces; tells a terminal that it will take.

    Loading a kernel from disk announces nothing.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._began = 0.0
        self._told = False
        self._listener: Any = None

    def watch(self) -> None:
        from numba.core import event

        clock = self

        class Listener(event.Listener):  # type: ignore[misc]
            def on_start(self, event: Any) -> None:
                clock.start()

            def on_end(self, event: Any) -> None:
                clock.end()

        self._listener = Listener()
        event.register("numba:compile", self._listener)

    def stop(self) -> None:
        if self._listener is not None:
            from numba.core import event

            event.unregister("numba:compile", self._listener)
            self._listener = None

    def start(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._began = time.perf_counter()
            if not self._told and sys.stderr.isatty():
                print("compiling kernels: once, some 15 s …", file=sys.stderr)  # noqa: T201
            self._told = True

    def end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._began
