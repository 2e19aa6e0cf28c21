"""Ctrl-C that waits for a good moment.

Owns: turning the first SIGINT into a flag that is asked between slices; a second one interrupts at
once, as usual.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """While entered, `wanted` says whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.wanted = False
        self._previous: Any = None

    def __enter__(self) -> Interrupts:
        # Only the main thread may, and only it is interrupted.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        if _is_compiling(frame) and sys.stderr.isatty():
            said = "interrupted when the kernel is compiled; Ctrl-C once more: at once"
            print(f"\n{said}", file=sys.stderr)  # noqa: T201


def _is_compiling(frame: FrameType | None) -> bool:
    """Return whether `frame` is the compiler at work: it may be half a minute to the next slice."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "numba.core.compiler":
            return True
        frame = frame.f_back
    return False
