"""A progress line on standard error, for runs that take long enough to want one.

Owns: when it shows (on a terminal, after a moment), how often it changes, how long a file is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["ProgressLine", "reading_line"]

_PATIENCE_S = 0.7
_PAUSE_S = 0.1


def reading_line(path: str, what: str = "Reading") -> ProgressLine:
    """Return a line for the bytes read of a file; of a pipe the total is not known."""
    place = Path(path)
    return ProgressLine(what, place.stat().st_size if place.is_file() else None, "bytes")


class ProgressLine:
    """Shows `done` of `total`; costs nothing before it shows, and nothing off a terminal."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._next_s = time.perf_counter() + _PATIENCE_S
        self._shown: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def update(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Say how far it is; `total` and `what` change what was said before."""
        self._total = self._total if total is None else total
        self._what = self._what if what is None else what
        now_s = time.perf_counter()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PAUSE_S
        if not sys.stderr.isatty():
            self._next_s = float("inf")
            return
        if self._shown is None:
            self._show()
        self._shown.update(self._task, completed=done, total=self._total, description=self._what)

    def _show(self) -> None:
        from rich import progress

        from kvatlas.report.console import make_console

        columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        if self._unit == "bytes":
            columns.append(progress.DownloadColumn(binary_units=True))
        else:
            columns.append(progress.MofNCompleteColumn())
            columns.append(progress.TextColumn(self._unit))
        columns.append(progress.TimeRemainingColumn())
        self._shown = progress.Progress(*columns, console=make_console(stderr=True), transient=True)
        self._task = self._shown.add_task(self._what, total=self._total)
        self._shown.start()
