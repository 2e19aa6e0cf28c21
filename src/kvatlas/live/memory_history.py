"""PyTorch's memory history in a process that uses CUDA: recorded, and written when asked or on OOM.

Owns: the history's start, snapshots as files, the thread that answers requests, what happens on an
out-of-memory error. Leaves to others: the environment (`plugin`), the folder's names
(`history_folder`), asking (`kvatlas device capture`), reading a snapshot (`kvatlas.device`).

The history begins when CUDA does, by PyTorch's own queue of calls for that moment, so nothing here
depends on vLLM's version, and processes that never touch a device get no thread and no file.
Nothing that fails here reaches the program: it is said in one line.
"""

from __future__ import annotations

import atexit
import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvatlas.live.history_folder import HistoryFolder, Request, write_whole

__all__ = [
    "HistorySettings",
    "MemoryHistory",
    "begin_history",
    "end_history",
    "stand_by",
    "write_snapshot",
]

_POLL_S = 0.5
_STOP_WAIT_S = 2.0
_MOST_OOM_SNAPSHOTS = 3
_OOM_PAUSE_S = 30.0
_standing_by = threading.Event()
_histories: list[MemoryHistory] = []  # the observer is PyTorch's for good, so this is, too


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What the environment asks for.

    Attributes:
        folder: where snapshots go.
        events: of the history, the newest ones.
        stacks: `python`, or `all` for native calls, too.
    """

    folder: Path
    events: int = 100_000
    stacks: str = "python"


def stand_by(torch: Any, settings: HistorySettings, say: Callable[[str], None]) -> bool:
    """Record in this process once it uses CUDA; at once if it does already.

    Returns False for a PyTorch without CUDA, which is said. Does nothing the second time.
    """
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        say("kvatlas records no memory history: this PyTorch is built without CUDA")
        return False
    if _standing_by.is_set():
        return True
    _standing_by.set()
    history = MemoryHistory(torch, settings, say)
    _histories.append(history)
    torch.cuda._lazy_call(history.begin)
    return True


def begin_history(torch: Any, events: int, stacks: str) -> None:
    """Let PyTorch keep the newest `events` of its allocators, with stacks."""
    torch.cuda.memory._record_memory_history(
        enabled="all", context="all", stacks=stacks, max_entries=events
    )


def end_history(torch: Any) -> None:
    """Let PyTorch keep no more."""
    torch.cuda.memory._record_memory_history(enabled=None)


def write_snapshot(torch: Any, path: Path) -> None:
    """Write the allocators' state and history to `path`, whole or not at all. Raises: OSError."""
    taken = torch.cuda.memory._snapshot()
    write_whole(path, lambda file: pickle.dump(taken, file, pickle.HIGHEST_PROTOCOL))


class MemoryHistory:
    """The history of this process, and the thread that writes it down when asked."""

    def __init__(self, torch: Any, settings: HistorySettings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self._torch, self._say = torch, say
        self._folder: HistoryFolder | None = None
        self._thread: threading.Thread | None = None
        self._oom_snapshots, self._last_oom_s = 0, -_OOM_PAUSE_S
        self._writing = threading.Lock()
        self._stopping = threading.Event()

    def begin(self) -> None:
        """Begin the history, the watch over the folder, and over failures. Never raises."""
        try:
            begin_history(self._torch, self.settings.events, self.settings.stacks)
            self._folder = HistoryFolder(self.settings.folder)
            self._folder.sign_on(events=self.settings.events, torch=str(self._torch.__version__))
            self._torch._C._cuda_attach_out_of_memory_observer(self._ran_out)
            self._thread = threading.Thread(target=self._watch, name="kvatlas-history", daemon=True)
            self._thread.start()
            atexit.register(self.stop)
            self._say(f"kvatlas records memory history; snapshots go to {self.settings.folder}")
        except Exception as error:
            self._say(f"kvatlas records no memory history: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """Stop watching; the history goes on. Waits 2 s at most, for a snapshot may be long."""
        atexit.unregister(self.stop)
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_WAIT_S)  # it would say that it lives
        if self._folder is not None:
            self._folder.sign_off()

    def _watch(self) -> None:
        assert self._folder is not None
        while not self._stopping.wait(_POLL_S):
            try:
                self._folder.show_alive()
                for request in self._folder.open_requests():
                    self._answer(request)
            except OSError:
                continue  # the folder is gone for now, or its disk is full; look again

    def _answer(self, request: Request) -> None:
        assert self._folder is not None
        path = self._folder.snapshot_path(request)
        try:
            with self._writing:
                write_snapshot(self._torch, path)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._say(f"kvatlas wrote no memory snapshot: {reason}")
            self._folder.answer(request, error=reason)
            return
        self._folder.answer(request, file=path.name)

    def _ran_out(self, device: int, asked: int, allocated: int, free: int) -> None:
        """Write a snapshot of a failure: PyTorch calls this before it raises."""
        now_s = time.monotonic()
        if self._oom_snapshots == _MOST_OOM_SNAPSHOTS or now_s - self._last_oom_s < _OOM_PAUSE_S:
            return
        self._oom_snapshots, self._last_oom_s = self._oom_snapshots + 1, now_s
        assert self._folder is not None
        path = self._folder.oom_path(self._oom_snapshots)
        try:
            with self._writing:
                write_snapshot(self._torch, path)
        except Exception as error:
            self._say(f"kvatlas wrote no memory snapshot: {type(error).__name__}: {error}")
            return
        self._say(
            f"kvatlas wrote what memory was like when device {device} had no {asked} bytes: {path}"
        )
