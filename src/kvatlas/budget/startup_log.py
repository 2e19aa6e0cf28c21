"""What a vLLM server said about memory when it started.

Owns: reading a log, which process said what, and which start of several counts. Leaves to others:
the words of vLLM 0.6 to 0.32 (`log_lines`), what the figures mean together (`measured`).

A log is untrusted: it is read line by line up to a bound, and a line is cut at a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kvatlas.budget.log_lines import (
    COLOUR,
    CONFIG_VALUE,
    PHRASES,
    VERSION,
    WHO,
    LogFacts,
    take_line,
)
from kvatlas.errors import InputError

__all__ = ["StartupLog", "read_startup_log"]

MOST_BYTES = 256 << 20
_MOST_LINE = 16 << 10
_MOST_WORKERS = 4096


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
        cut: whether the log was longer than what is read.
    """

    file: str
    version: str | None = None
    runner: str | None = None
    config: dict[str, str] = field(default_factory=dict)
    workers: dict[str, LogFacts] = field(default_factory=dict)
    starts: int = 0
    cut: bool = False

    @property
    def says_something(self) -> bool:
        """Whether any process said how much memory something takes."""
        return any(facts.gib for facts in self.workers.values())


def read_startup_log(path: str | Path) -> StartupLog:
    """Return what the log at `path` says; cost O(bytes), up to 256 MiB.

    Raises:
        InputError: no such file, or no line of it is about memory.
    """
    reader = _Reader(StartupLog(file=str(path)))
    left = MOST_BYTES
    try:
        with Path(path).open("rb") as file:
            while left > 0:
                raw = file.readline(min(_MOST_LINE, left))
                if not raw:
                    break
                left -= len(raw)
                reader.take(raw.decode("utf-8", "replace"))
            reader.log.cut = left <= 0 and bool(file.read(1))
    except OSError as error:
        raise InputError(
            "cannot read the log", file=path, value=error.strerror, remedy="name a log file"
        ) from None
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

    def take(self, line: str) -> None:
        line = COLOUR.sub("", line) if "\x1b" in line else line
        if not any(phrase in line for phrase in PHRASES):
            return
        if "model_runner.py:" in line:
            self.log.runner = "v1" if "gpu_model_runner.py:" in line else "v2"
        found = WHO.search(line[:200])
        who = found[1] if found else ""
        if version := VERSION.search(line):
            self._start(version[1], line, who)
            return
        workers = self.log.workers
        facts = workers.get(who) or LogFacts()
        if take_line(facts, line) and (who in workers or len(workers) < _MOST_WORKERS):
            workers[who] = facts

    def finished(self) -> StartupLog:
        """Return the last start that says something: one may have failed before it could."""
        if not self.log.says_something and self._before is not None:
            self._before.starts, self._before.cut = self.log.starts, self.log.cut
            return self._before
        return self.log

    def _start(self, version: str, line: str, who: str) -> None:
        if who in self._engines or not self._engines:
            if self.log.says_something:
                self._before = self.log
            self._engines.clear()
            self.log = StartupLog(file=self.log.file, starts=self.log.starts + 1)
        self._engines.add(who)
        self.log.version = version
        for name, pattern in CONFIG_VALUE.items():
            if value := pattern.search(line):
                self.log.config[name] = value[1]
