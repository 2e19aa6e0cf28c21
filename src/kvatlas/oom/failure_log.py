"""What a log says about running out of memory: every failure, when it came, and who said it.

Owns: which start of several counts, one failure that many processes repeat, the traceback before
it. Leaves to others: reading (`kvatlas.budget.log_blocks`), the words (`message`, `refusals`,
`phases`), the figures of a start (`kvatlas.budget.startup_log`), what it means (`explain`).

A log is untrusted: what is kept of it is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from kvatlas.budget.log_blocks import STDIN, line_parts, log_blocks
from kvatlas.budget.log_lines import COLOUR, PHRASES, VERSION, process_of
from kvatlas.budget.startup_log import StartupLog
from kvatlas.errors import InputError
from kvatlas.oom.failures import Failure, FailureLog
from kvatlas.oom.message import MESSAGE_BEGINS, OomMessage, parse_message
from kvatlas.oom.phases import CALL, PHASE_PHRASES, Call, Phase, phase_of_calls, phase_of_line
from kvatlas.oom.refusals import REFUSAL_PHRASES, Refusal, parse_refusal

__all__ = ["read_failure_log"]

_MOST_FAILURES = 64
_MOST_WORKERS = 256
_MOST_CALLS = 80
_MOST_ENGINES = 4096
_WRAPPED_LINES = 12
# The API server prints it before the engine says that it starts.
_SHARE = re.compile(r"non-default args: .{0,8000}'gpu_memory_utilization': ([0-9.]{1,20})")
_BEGINS_AT_AN_END = MESSAGE_BEGINS.partition(" Tried")[0]
_WORDS = ("File ", *PHASE_PHRASES, *REFUSAL_PHRASES, *PHRASES, MESSAGE_BEGINS)
_ALL = {*_WORDS, "out of memory", "non-default args"}
_BYTES = tuple(
    word.encode() for word in _ALL if not any(other in word for other in _ALL if other != word)
)
"""Lines without any of these are passed over."""


def read_failure_log(
    path: str | Path,
    *,
    on_bytes: Callable[[int], object] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FailureLog:
    """Return the failures in a log. O(bytes), O(1) memory.

    Args:
        path: a file, plain, gzip or zstd; "-": standard input.
        on_bytes: is told how many bytes have been read, now and then.
        stop: asked now and then; what was read until then is used.

    Raises: InputError when it cannot be read, or no line of it is about running out of memory.
    """
    name = str(path)
    reader = _Reader(name)
    for first_line, block in log_blocks(name, on_bytes):
        reader.lines = first_line + block.count(b"\n")
        if reader.waits or any(word in block for word in _BYTES):
            for number, line in enumerate(block.split(b"\n"), first_line):
                if not line:
                    continue
                for part in line_parts(line):
                    reader.take(number, part)
        if stop():
            reader.cut = True
            break
    log = reader.finished()
    if not log.failures and reader.unread is not None:
        raise InputError(
            f"the out-of-memory message in line {reader.unread:,} is cut short, or in words that "
            "no version of PyTorch uses",
            file="standard input" if name == STDIN else name,
            remedy="give the log with the whole message, or a memory snapshot (.pickle)",
        )
    if not log.failures:
        raise InputError(
            "no line of this log is about running out of memory",
            file="standard input" if name == STDIN else name,
            remedy="give the log with the traceback, or a memory snapshot (.pickle)",
        )
    return log


class _Reader:
    """Takes line after line."""

    def __init__(self, file: str) -> None:
        self.log = FailureLog(file=file, startup=StartupLog(file=file))
        self._failed: FailureLog | None = None
        self._engines: set[str] = set()
        self._calls: dict[str, deque[Call]] = {}
        self._phases: dict[str, Phase] = {}
        self._known: dict[object, Failure] = {}
        self._open: tuple[int, list[str]] | None = None
        self._share: str | None = None
        self.lines = 0
        self.unread: int | None = None
        self.cut = False

    @property
    def waits(self) -> bool:
        """Whether a message has begun whose end is still to come."""
        return self._open is not None

    def take(self, number: int, line: bytes) -> None:
        """Take a line, or a part of a long one."""
        if self._open is None and not any(word in line for word in _BYTES):
            return
        text = COLOUR.sub("", line.decode("utf-8", "replace"))
        if self._open is not None:
            self._continue(number, text)
            return
        who = process_of(text)
        if version := VERSION.search(text):
            self._start(version[1], text, who)
        if share := _SHARE.search(text):
            self._share = share[1]
        if call := CALL.search(text):
            self._call(who, Call(call[1], int(call[2]), call[3]))
            return
        if phase := phase_of_line(text):
            self._phases[who if who in self._phases or self._room() else ""] = phase
        self.log.startup.take(who, text)
        self._failure(number, who, text)

    def finished(self) -> FailureLog:
        """Return the last start that failed."""
        if self._open is not None:
            self._close()
        log = self.log
        if not log.failures and self._failed is not None:
            log = self._failed
        log.lines, log.starts, log.cut = self.lines, self.log.starts, self.cut
        failed_now = log is self.log and bool(log.failures and self._engines)
        log.failed_starts = self.log.failed_starts + failed_now
        return log

    def _failure(self, number: int, who: str, text: str) -> None:
        if MESSAGE_BEGINS in text:
            message = parse_message(text)
            if message is not None and message.unallocated_bytes is not None:
                self._add(number, who, message, None)
                return
            if parse_refusal(text) is None:
                # Somebody wrapped it: what is missing stands on the next lines.
                self._open = (number, [text])
                return
        refusal = parse_refusal(text)
        if refusal is not None:
            self._add(number, who, None, refusal)
        elif text.rstrip().endswith(_BEGINS_AT_AN_END):
            self._open = (number, [text])

    def _continue(self, number: int, text: str) -> None:
        """Join the next line to a message that is not whole yet."""
        assert self._open is not None
        begun, texts = self._open
        begins = MESSAGE_BEGINS in text or parse_refusal(text) or VERSION.search(text)
        if begins or len(texts) == _WRAPPED_LINES:
            self._close()
            self.take(number, text.encode())
            return
        texts.append(text)
        message = parse_message(" ".join(texts))
        if message is not None and message.unallocated_bytes is not None:
            self._open = None
            self._add(begun, process_of(texts[0]), message, None)

    def _close(self) -> None:
        """Take a message whose end never came as far as it goes."""
        assert self._open is not None
        begun, texts = self._open
        self._open = None
        message = parse_message(" ".join(texts))
        if message is not None:
            self._add(begun, process_of(texts[0]), message, None)
        elif MESSAGE_BEGINS in " ".join(texts):
            self.unread = begun

    def _add(
        self, number: int, who: str, message: OomMessage | None, refusal: Refusal | None
    ) -> None:
        key = message or refusal
        calls = tuple(self._calls.pop(who, ()))
        if key in self._known:
            known = self._known[key]
            known.times += 1
            if len(calls) > len(known.calls):  # the process that failed prints more than others
                known.calls = calls
                known.phase = phase_of_calls(calls) or known.phase
            return
        failures = self.log.failures
        if len(failures) == _MOST_FAILURES:
            self.log.more += 1
            return
        phase = phase_of_calls(calls) or self._phases.get(who) or self._phases.get("")
        if phase is None and self._phases:
            phase = list(self._phases.values())[-1]
        failure = Failure(
            line=number, who=who, message=message, refusal=refusal, phase=phase, calls=calls
        )
        self._known[key] = failure
        failures.append(failure)

    def _call(self, who: str, call: Call) -> None:
        if who not in self._calls and len(self._calls) == _MOST_WORKERS:
            self._calls.clear()
        self._calls.setdefault(who, deque(maxlen=_MOST_CALLS)).append(call)

    def _start(self, version: str, text: str, who: str) -> None:
        """Begin anew when an engine of the same name starts again."""
        if who in self._engines or not self._engines:
            if self.log.failures:
                self._failed = self.log
            failed = self.log.failed_starts + bool(self.log.failures and self._engines)
            file, starts = self.log.file, self.log.starts + 1
            self.log = FailureLog(
                file=file, starts=starts, failed_starts=failed, startup=StartupLog(file=file)
            )
            self._engines.clear()
            self._known.clear()
            self._phases.clear()
        if len(self._engines) < _MOST_ENGINES:
            self._engines.add(who)
        startup = self.log.startup
        startup.starts = self.log.starts
        startup.begin(version, text)
        if self._share is not None:
            startup.config["gpu_memory_utilization"] = self._share
            self._share = None

    def _room(self) -> bool:
        return len(self._phases) < _MOST_WORKERS
