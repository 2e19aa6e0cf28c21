"""What a vLLM server said about memory when it started.

Owns: which process said what, and which start of several counts. Leaves to others: reading a file
(`log_blocks`), the words of vLLM 0.6 to 0.32 (`log_lines`), what the figures mean together
(`measured`).

A log is untrusted: what is kept of it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kvatlas.budget.log_blocks import line_parts, log_blocks
from kvatlas.budget.log_lines import (
    COLOUR,
    CONFIG_VALUE,
    PHRASES,
    VERSION,
    LogFacts,
    process_of,
    take_line,
)
from kvatlas.errors import InputError

__all__ = ["StartupLog", "read_startup_log"]

_MOST_WORKERS = 4096
_BYTES = tuple(phrase.encode() for phrase in PHRASES)


@dataclass(slots=True)
class StartupLog:
    """A whole log.

    Attributes:
        file: where it was read.
        version: vLLM's, None when it does not say.
        runner: the model runner whose lines these are, v1 or v2; None when no line tells.
        config: settings by vLLM's names, as printed.
        workers: what each process said, by its name in the log; "" where processes have none.
        starts: how often a server started in it; the figures are those of the last one.
    """

    file: str
    version: str | None = None
    runner: str | None = None
    config: dict[str, str] = field(default_factory=dict)
    workers: dict[str, LogFacts] = field(default_factory=dict)
    starts: int = 0

    @property
    def says_something(self) -> bool:
        """Whether any process said how much memory something takes."""
        return any(facts.gib for facts in self.workers.values())

    def begin(self, version: str, line: str) -> None:
        """Take the line with which an engine of vLLM's `version` says that it starts."""
        self.version = version
        for name, pattern in CONFIG_VALUE.items():
            if value := pattern.search(line):
                self.config[name] = value[1]

    def take(self, who: str, line: str) -> None:
        """Take the figures of a line that the process `who` said; most lines have none."""
        if not any(phrase in line for phrase in PHRASES):
            return
        if "model_runner.py:" in line:
            self.runner = "v1" if "gpu_model_runner.py:" in line else "v2"
        facts = self.workers.get(who) or LogFacts()
        if take_line(facts, line) and (who in self.workers or len(self.workers) < _MOST_WORKERS):
            self.workers[who] = facts


def read_startup_log(
    path: str | Path, *, on_bytes: Callable[[int], object] | None = None
) -> StartupLog:
    """Return what the log at `path` says. O(bytes), O(1) memory.

    Args:
        path: a file, plain, gzip or zstd; "-": standard input.
        on_bytes: is told how many bytes have been read, now and then.

    Raises:
        InputError: it cannot be read, or no line of it is about memory.
    """
    reader = _Reader(StartupLog(file=str(path)))
    for _, block in log_blocks(str(path), on_bytes):
        if any(phrase in block for phrase in _BYTES):
            for line in block.split(b"\n"):
                for part in line_parts(line):
                    reader.take(part)
    log = reader.finished()
    if not log.says_something:
        raise InputError(
            "no line of vLLM's about memory in this log",
            file=path,
            remedy="give the output of `vllm serve` from its start; VLLM_LOGGING_LEVEL must be "
            "INFO or DEBUG",
        )
    return log


class _Reader:
    """Takes line after line, and begins anew when an engine of the same name starts again."""

    def __init__(self, log: StartupLog) -> None:
        self.log = log
        self._engines: set[str] = set()
        self._before: StartupLog | None = None

    def take(self, line: bytes) -> None:
        if not any(phrase in line for phrase in _BYTES):
            return
        text = COLOUR.sub("", line.decode("utf-8", "replace"))
        who = process_of(text)
        if version := VERSION.search(text):
            self._start(version[1], text, who)
        else:
            self.log.take(who, text)

    def finished(self) -> StartupLog:
        """Return the last start that says something: one may have failed before it could."""
        if not self.log.says_something and self._before is not None:
            self._before.starts = self.log.starts
            return self._before
        return self.log

    def _start(self, version: str, line: str, who: str) -> None:
        if who in self._engines or not self._engines:
            if self.log.says_something:
                self._before = self.log
            self._engines.clear()
            self.log = StartupLog(file=self.log.file, starts=self.log.starts + 1)
        self._engines.add(who)
        self.log.begin(version, line)
