"""Samples of the memory monitor, read from an engine's folder, never trusted.

Owns: which lines count, following a file that grows and rotates, in bounded memory. Leaves to
others: taking samples (`kvatlas.live.monitor`) and showing them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from kvatlas.events.live.memory_sample import (
    DeviceMemory,
    GcPauses,
    MemorySample,
    SampleLine,
    TorchMemory,
)

__all__ = [
    "DeviceMemory",
    "GcPauses",
    "MemoryFollower",
    "MemorySample",
    "TorchMemory",
    "read_memory",
]

_FILE, _OLDER_FILE = "memory.jsonl", "memory.older.jsonl"
_MOST_FILE_BYTES = 8 << 20
"""Bytes of a file that are looked at, from its end: twice what the monitor writes."""
_MOST_LINE_BYTES = 1 << 16
_MARK_BYTES = 64
_MOST_TEXT = 200

_T = TypeVar("_T")


class _File(NamedTuple):
    number: int
    # Which file it is, wherever it is moved: a dropped file's inode is soon used again, but every
    # file begins with a time of its own.
    mark: tuple[int, bytes]
    size: int


class MemoryFollower:
    """Follows the samples of an engine while they are written.

    Attributes:
        skipped: lines that were no samples, such as one that a full disk cut.
    """

    def __init__(self, engine_dir: Path) -> None:
        self.skipped = 0
        self._path, self._older_path = engine_dir / _FILE, engine_dir / _OLDER_FILE
        # The file that we are in, where in it, and the one before.
        self._mark: tuple[int, bytes] | None = None
        self._finished: tuple[int, bytes] | None = None
        self._offset = 0
        self._reasons = {"process": "", "torch": "", "nvml": ""}
        self._decoder = msgspec.json.Decoder(SampleLine)

    def poll(self) -> list[MemorySample]:
        """Return the samples since the last call, oldest first; a line that is not whole yet waits.

        O(new bytes), 16 MiB at most; a file that is missing or cannot be read has no samples.
        """
        found: list[MemorySample] = []
        # The newer one first: should the monitor rotate between the two, we have one file twice.
        files = [file for file in map(_opened, (self._path, self._older_path)) if file]
        try:
            files.reverse()
            for file in files:
                if file.mark == self._finished:
                    continue
                if file.mark != self._mark:
                    self._finished, self._mark, self._offset = self._mark, file.mark, 0
                self._take(file, found)
        finally:
            for file in files:
                os.close(file.number)
        return found

    def _take(self, file: _File, found: list[MemorySample]) -> None:
        data, self._offset = _new_lines(file, self._offset)
        for line in data.split(b"\n"):
            if not line.strip():
                continue
            try:
                if len(line) > _MOST_LINE_BYTES:
                    raise msgspec.ValidationError("longer than any sample")
                found.append(self._sample(self._decoder.decode(line)))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self.skipped += 1

    def _sample(self, line: SampleLine) -> MemorySample:
        torch, torch_reason = self._told("torch", line.torch)
        nvml, nvml_reason = self._told("nvml", line.nvml)
        if line.process:
            self._reasons["process"] = _clean(line.process)
        elif line.rss_bytes is not None:
            self._reasons["process"] = ""
        return MemorySample(
            line.t_ms,
            line.wall_s,
            rss_bytes=line.rss_bytes,
            peak_rss_bytes=line.peak_rss_bytes,
            vms_bytes=line.vms_bytes,
            swap_bytes=line.swap_bytes,
            cpu_s=line.cpu_s,
            monitor_cpu_ms=line.monitor_cpu_ms,
            gc=line.gc if isinstance(line.gc, GcPauses) else None,
            torch=torch,
            torch_reason=torch_reason,
            nvml=nvml,
            nvml_reason=nvml_reason,
            process_reason=self._reasons["process"],
        )

    def _told(self, name: str, value: tuple[_T, ...] | str | None) -> tuple[tuple[_T, ...], str]:
        if isinstance(value, str):
            self._reasons[name] = _clean(value)
        elif value:
            self._reasons[name] = ""
        return (value if isinstance(value, tuple) else ()), self._reasons[name]


def read_memory(engine_dir: Path) -> list[MemorySample]:
    """Return the samples of an engine, oldest first: some 20,000 at most. Cost: 10 us for each."""
    return MemoryFollower(engine_dir).poll()


def _opened(path: Path) -> _File | None:
    """Open a file that holds a line, or so much that it never will."""
    try:
        # Not blocking: a pipe of this name must not hold the reader up.
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(number)
    if stat.S_ISREG(about.st_mode):
        head, newline, _ = os.pread(number, _MARK_BYTES, 0).partition(b"\n")
        if newline or len(head) == _MARK_BYTES:
            return _File(number, (about.st_ino, head), about.st_size)
    os.close(number)
    return None


def _new_lines(file: _File, offset: int) -> tuple[bytes, int]:
    """Return the whole lines from `offset` on, and where the next one begins."""
    start = max(offset, file.size - _MOST_FILE_BYTES)
    try:
        data = os.pread(file.number, _MOST_FILE_BYTES, start)
    except OSError:
        return b"", offset
    end = data.rfind(b"\n") + 1
    begin = data.find(b"\n") + 1 if start > offset else 0
    if not end and len(data) > _MOST_LINE_BYTES:
        end = len(data)  # no line of ours: passed over, so that it is not read again and again
    return data[begin:end], start + end


def _clean(text: str) -> str:
    return "".join(ch if ch.isprintable() else "?" for ch in text[:_MOST_TEXT])
