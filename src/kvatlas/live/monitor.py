"""Memory over time: a thread that takes a sample of every source, keeps some, writes a line each.

Owns: when samples are taken, what a line says. Leaves to others: each source
(`memory_sources`), the file (`bounded_lines`), reading the file (`kvatlas.events.live.memory`).

One sample is one JSON object. A source that is absent is a text that says why, told once in each
file and again when it changes; a line without the source means: as before.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any
from weakref import WeakSet

from kvatlas.errors import InputError
from kvatlas.live.bounded_lines import BoundedLines
from kvatlas.live.memory_sources import GcPauses, NvmlMemory, ProcessMemory, torch_memory

__all__ = [
    "MEMORY_FILE",
    "MemoryMonitor",
    "memory_interval_s",
    "start_monitor",
]

MEMORY_FILE = "memory.jsonl"
_STOP_WAIT_S = 2.0
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_LEAST_INTERVAL_S, _MOST_INTERVAL_S = 0.05, 3600.0

_monitors: WeakSet[MemoryMonitor] = WeakSet()


class MemoryMonitor:
    """Takes a sample of the process's and its devices' memory every `interval_s`.

    Works in any process; vLLM is not needed. Cost: below 0.1% of a core at 1 s.

    Args:
        interval_s: seconds between two samples, 0.05 to 3600.
        clock_ms: the clock of `t_ms`; milliseconds since the monitor was made without one.
        path: the file that gets a line per sample; it and one older file of 4 MiB are kept.
        keep: samples that `history` keeps at most, the newest.

    Attributes:
        history: the newest samples, oldest first, as they are written.
        errors: samples or parts of one that failed; the engine never hears of them.
        last_error: the text of the last one.

    Raises: InputError for an interval out of range.
    """

    def __init__(
        self,
        interval_s: float = 1.0,
        *,
        clock_ms: Callable[[], float] | None = None,
        path: Path | None = None,
        keep: int = 3600,
    ) -> None:
        self.interval_s = _checked(interval_s, "interval_s", interval_s)
        self.history: deque[dict[str, Any]] = deque(maxlen=keep)
        self.errors = 0
        self.last_error = ""
        began = time.monotonic()
        self._clock_ms = clock_ms or (lambda: (time.monotonic() - began) * 1000.0)
        self._file = None if path is None else BoundedLines(path)
        self._process, self._gc, self._nvml = ProcessMemory(), GcPauses(), NvmlMemory()
        self._reasons: dict[str, str] = {}
        self._stopping = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> MemoryMonitor:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take a sample now and one every interval from a thread; does nothing when it runs."""
        if self._thread is not None:
            return
        self._gc.start()
        self._stopping.clear()
        _monitors.add(self)
        self._thread = Thread(target=self._run, name="kvatlas-memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and stop; waits 2 s at most, for a source may hang."""
        self._gc.stop()
        _monitors.discard(self)
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None:
            thread.join(_STOP_WAIT_S)

    def sample(self) -> dict[str, Any]:
        """Return a sample: every source, or why there is none. Never raises."""
        found: dict[str, Any] = {
            "t_ms": round(self._clock_ms(), 3),
            "wall_s": round(time.time(), 3),
            "cpu_s": round(time.process_time(), 3),
        }
        process = self._asked("process", self._process.read)
        if isinstance(process, dict):
            found |= process
        else:
            found["process"] = process
        found["gc"] = self._asked("gc", self._gc.read)
        found["torch"] = self._asked("torch", torch_memory)
        found["nvml"] = self._asked("nvml", self._nvml.read)
        return found

    def _asked(self, source: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:  # whatever a foreign library raises, the engine runs on
            return self._failed(source, error)

    def _failed(self, source: str, error: Exception) -> str:
        self.errors += 1
        self.last_error = f"{source}: {type(error).__name__}: {error}"[:200]
        return self.last_error

    def _run(self) -> None:
        self._tick()
        while not self._stopping.wait(self.interval_s):
            self._tick()
        self._tick()
        self._asked("process", self._process.close)
        self._asked("nvml", self._nvml.close)
        if self._file is not None:
            self._asked("file", self._file.close)

    def _tick(self) -> None:
        try:
            sample = self.sample()
            # What watching costs: the processor time of this thread since it began.
            sample["monitor_cpu_ms"] = round(time.thread_time() * 1000.0, 3)
            self.history.append(sample)
            if self._file is not None:
                self._write(self._file, sample)
        except Exception as error:  # a clock, a disk, a foreign library: the engine runs on
            self._failed("sample", error)

    def _write(self, file: BoundedLines, sample: dict[str, Any]) -> None:
        if file.begins_anew():
            self._reasons.clear()
        told = {
            name: value
            for name, value in sample.items()
            if not (isinstance(value, str) and self._reasons.get(name) == value)
        }
        file.append(_ENCODER.encode(told).encode() + b"\n")
        for name, value in told.items():
            if isinstance(value, str):
                self._reasons[name] = value
            else:
                self._reasons.pop(name, None)

    def _forget_thread(self) -> None:
        # In a forked child no thread samples: neither may the collector's callback stay.
        self._gc.stop()
        self._thread = None


def start_monitor(path: Path, clock_ms: Callable[[], float], interval_s: float) -> MemoryMonitor:
    """Return a running monitor that writes to `path` and keeps nothing in memory.

    Raises: InputError for an interval out of range.
    """
    monitor = MemoryMonitor(interval_s, clock_ms=clock_ms, path=path, keep=0)
    monitor.start()
    return monitor


def memory_interval_s(text: str | None) -> float | None:
    """Return the seconds that `KVATLAS_MEMORY_INTERVAL` says: 1 when unset, None for 0 (off).

    Raises: InputError when it is no number of seconds from 0.05 to 3600, nor 0.
    """
    if text is None or not text.strip():
        return 1.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    return None if seconds == 0 else _checked(seconds, "KVATLAS_MEMORY_INTERVAL", text)


def _checked(seconds: float, field: str, value: object) -> float:
    if not _LEAST_INTERVAL_S <= seconds <= _MOST_INTERVAL_S:
        raise InputError(
            f"must be {_LEAST_INTERVAL_S:g} to {_MOST_INTERVAL_S:g} seconds",
            field=field,
            value=value,
        )
    return seconds


def _after_fork() -> None:
    for monitor in list(_monitors):
        monitor._forget_thread()


os.register_at_fork(after_in_child=_after_fork)
