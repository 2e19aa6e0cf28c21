"""One engine's recording from its start to its end: folder, header, hooks, monitor, windows.

Owns: putting the parts together and taking them apart. Leaves to others: each part, and when vLLM
makes an engine (`plugin`).
"""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from kvatlas.live.facts import header_facts
from kvatlas.live.hooks import Hooks
from kvatlas.live.monitor import MEMORY_FILE, MemoryMonitor, start_monitor
from kvatlas.live.recorder import Recorder

__all__ = ["Session", "Settings"]

_WINDOW_STEPS = 64
_BLOCK_BYTES = 48  # of a checkpoint, per block of the pool, and something to spare
_sessions: WeakSet[Session] = WeakSet()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for.

    Attributes:
        folder: where recordings go.
        most_bytes: of an engine's segments together.
        sample: share of the steps recorded, in windows of 64; 1 for all.
        memory_interval_s: between samples of the process's memory, None for none.
    """

    folder: Path
    most_bytes: int = 256 << 20
    sample: float = 1.0
    memory_interval_s: float | None = 1.0


class Session:
    """Records one engine until it ends. Raises OSError when its folder cannot be made."""

    def __init__(
        self,
        scheduler: Any,
        settings: Settings,
        say: Callable[[str], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.scheduler, self.settings = scheduler, settings
        started = datetime.now(UTC)
        facts = header_facts(scheduler, started.timestamp(), settings.sample, settings.most_bytes)
        rank = facts["live"]["data_parallel_rank"]
        self.folder = _own_folder(settings.folder, rank, started)
        _write_whole(self.folder / "header.json", json.dumps(facts, indent=1).encode())
        checkpoint_bytes = facts["num_blocks"] * _BLOCK_BYTES
        segment_bytes = max(min(16 << 20, settings.most_bytes // 4), 4 * checkpoint_bytes, 1 << 16)
        self.recorder = Recorder(
            self.folder,
            engine=scheduler,
            segment_bytes=segment_bytes,
            most_bytes=settings.most_bytes,
            clock_ns=clock_ns,
            say=say,
        )
        self.hooks = Hooks(scheduler, self.recorder)
        self.recorder.on_stop = self.hooks.remove
        self.recorder.on_checkpoint = self.hooks.steps.checkpointed
        if settings.sample < 1:
            self.hooks.steps.steps_left = _WINDOW_STEPS
            self.hooks.steps.on_until = self._close_window
        interval_s = settings.memory_interval_s
        self._monitor: MemoryMonitor | None = None
        if interval_s is not None:
            path = self.folder / MEMORY_FILE
            self._monitor = start_monitor(path, self.recorder.elapsed_ms, interval_s)
        self.hooks.install()
        self.recorder.begin()
        self._end_with_engine()
        atexit.register(self.close)
        _sessions.add(self)

    def close(self) -> None:
        """End the recording; vLLM's methods are its own again."""
        atexit.unregister(self.close)
        _sessions.discard(self)
        self.hooks.remove()
        vars(self.scheduler).pop("shutdown", None)
        self.recorder.close()
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None

    def leave_to_parent(self) -> None:
        """In a forked child: the recording is the parent's, nothing here may touch it again."""
        atexit.unregister(self.close)
        self.recorder.stopped = True
        self.hooks.remove()
        for name in ("shutdown", "schedule"):
            vars(self.scheduler).pop(name, None)

    def _end_with_engine(self) -> None:
        inner = self.scheduler.shutdown

        def shutdown(*args: Any, **kwargs: Any) -> Any:
            try:
                self.close()
            except Exception as error:
                self.recorder.fail(error)
            return inner(*args, **kwargs)

        self.scheduler.shutdown = shutdown

    def _close_window(self) -> None:
        """Stop listening for as many steps as the share of samples leaves out."""
        self.hooks.remove()
        self.recorder.leave_gap()
        inner = self.scheduler.schedule
        left = round(_WINDOW_STEPS * (1 / self.settings.sample - 1))

        def schedule(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            output = inner(*args, **kwargs)
            self.recorder.step += 1
            left -= output.total_num_scheduled_tokens > 0
            if left <= 0:
                del self.scheduler.schedule
                self._open_window()
            return output

        self.scheduler.schedule = schedule

    def _open_window(self) -> None:
        if self.recorder.stopped:
            return
        try:
            self.hooks.steps.steps_left = _WINDOW_STEPS
            self.hooks.install()
            self.recorder.go_on()
        except Exception as error:
            self.recorder.fail(error)
            self.hooks.remove()


def _own_folder(folder: Path, rank: int, started: datetime) -> Path:
    """Make a folder for this engine alone, readable by its owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = folder / f"engine-{rank}-{started:%Y%m%dT%H%M%S}-{os.getpid()}"
    for number in range(1000):
        try:
            own.mkdir(mode=0o700)
        except FileExistsError:
            own = own.with_name(f"{own.name.split('.')[0]}.{number + 1}")
            continue
        return own
    raise FileExistsError(f"{own} and a thousand others exist")


def _write_whole(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _after_fork() -> None:
    for session in list(_sessions):
        session.leave_to_parent()
    _sessions.clear()


os.register_at_fork(after_in_child=_after_fork)
