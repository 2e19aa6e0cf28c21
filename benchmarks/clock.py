"""Seconds: medians of repeated runs, and whole processes from start to exit."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """Repeated measurements of one thing; the table shows the median and the spread."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def range(self) -> str:
        """The fastest and the slowest run, as text."""
        return f"{min(self.values):.3f} to {max(self.values):.3f}"

    def __str__(self) -> str:
        """Return the median with its unit."""
        return f"{self.median:.3f} s"


def repeat(measure: Callable[[], float], times: int, *, at_least_s: float = 0.0) -> Seconds:
    """Return what `measure` answers in `times` runs, or in more until they add up to enough."""
    values: list[float] = []
    while len(values) < times or sum(values) < at_least_s:
        values.append(measure())
    return Seconds(tuple(values))


def process_seconds(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[float, str]:
    """Run `command` to its end; return the wall seconds and its standard output.

    Raises:
        SystemExit: with the command and its error output, when it fails.
    """
    started = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return seconds, done.stdout


def kvatlas_command(*arguments: str) -> list[str]:
    """Return the command line that runs kvatlas with this interpreter."""
    return [sys.executable, "-m", "kvatlas.cli", *arguments]
