"""The folder through which a command and the processes that record memory history talk.

Owns: its files' names and what is in them, on either side; who is alive. Leaves to others: what a
snapshot is (`memory_history`), flags (`kvatlas device capture`).

    process-PID-SALT.json     a process that records; touched twice a second while it lives
    request-ID                somebody wants a snapshot of every process
    answer-ID-PID-SALT.json   a process has written one, or says why not
    snapshot-ID-PID.pickle    the snapshot; oom-PID-N.pickle: one that a failure left

No signals and no sockets: a folder works across users' namespaces and containers that share it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["Answer", "HistoryFolder", "Request", "ask", "living", "write_whole"]

_ALIVE_S = 10.0
_REQUEST = re.compile(r"request-([0-9a-f]{8})")
_PROCESS = re.compile(r"process-([0-9]{1,10})-([0-9a-f]{8})\.json")
_MOST_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """A wish for a snapshot, by its `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answered: the `file` that it wrote, or an `error`."""

    pid: int
    file: str | None
    error: str | None


class HistoryFolder:
    """The folder as a recording process sees it. Raises OSError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._who = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._said = b""
        self._done: set[str] = {one.name for one in self._requests()}

    def sign_on(self, **facts: Any) -> None:
        """Say that this process records. Raises: OSError."""
        said = {"pid": os.getpid(), "started_unix_s": time.time(), **facts}
        self._said = json.dumps(said).encode()
        write_whole(self._process, lambda file: file.write(self._said))

    def show_alive(self) -> None:
        """Touch this process's file; write it again where it was removed. Raises: OSError."""
        try:
            os.utime(self._process)
        except FileNotFoundError:
            write_whole(self._process, lambda file: file.write(self._said))

    def sign_off(self) -> None:
        """Take back that this process records."""
        self._process.unlink(missing_ok=True)

    def open_requests(self) -> Iterator[Request]:
        """Yield the requests that came since this process began and were not yielded before."""
        for request in self._requests():
            if request.name not in self._done:
                self._done.add(request.name)
                yield request

    def snapshot_path(self, request: Request) -> Path:
        """Return where the snapshot goes that answers a request."""
        return self.folder / f"snapshot-{request.name}-{os.getpid()}.pickle"

    def oom_path(self, number: int) -> Path:
        """Return where the snapshot of a failure goes."""
        return self.folder / f"oom-{self._who}-{number}.pickle"

    def answer(
        self, request: Request, *, file: str | None = None, error: str | None = None
    ) -> None:
        """Say that a request is dealt with."""
        said = json.dumps({"pid": os.getpid(), "file": file, "error": error}).encode()
        write_whole(
            self.folder / f"answer-{request.name}-{self._who}.json", lambda out: out.write(said)
        )

    @property
    def _process(self) -> Path:
        return self.folder / f"process-{self._who}.json"

    def _requests(self) -> Iterator[Request]:
        for path in sorted(self.folder.iterdir()):
            match = _REQUEST.fullmatch(path.name)
            if match is not None:
                yield Request(match[1])


def living(folder: Path, now_s: float | None = None) -> list[str]:
    """Return the processes that record into a folder, as `PID-SALT`; O(files)."""
    now_s = time.time() if now_s is None else now_s
    found = []
    for path in sorted(folder.iterdir()):
        match = _PROCESS.fullmatch(path.name)
        try:
            if match is not None and abs(now_s - path.stat().st_mtime) < _ALIVE_S:
                found.append(f"{match[1]}-{match[2]}")
        except FileNotFoundError:
            continue  # it signed off while we looked
    return found


def ask(
    folder: Path,
    wait_s: float,
    *,
    pause: Callable[[float], None] = time.sleep,
    on_wait: Callable[[int, int], object] | None = None,
) -> list[Answer]:
    """Ask every process that records into `folder` for a snapshot; return the answers that came.

    Returns when all have answered that still live, or after `wait_s` seconds; `on_wait` is told
    now and again how many answered, of how many. Raises: OSError.
    """
    name = secrets.token_hex(4)
    request = folder / f"request-{name}"
    asked, answers = set(living(folder)), dict[str, Answer]()
    request.touch(mode=0o600)
    try:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and (asked - answers.keys()) & set(living(folder)):
            pause(0.1)
            for who in asked - answers.keys():
                path = folder / f"answer-{name}-{who}.json"
                if path.exists():
                    answers[who] = _read_answer(path, int(who.split("-")[0]))
            if on_wait is not None:
                on_wait(len(answers), len(asked))
    finally:
        request.unlink(missing_ok=True)
        for who in asked:
            (folder / f"answer-{name}-{who}.json").unlink(missing_ok=True)
    return [answers[who] for who in sorted(answers)]


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file that its owner alone may read, whole or not at all. Raises: OSError."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _read_answer(path: Path, pid: int) -> Answer:
    """Return an answer; the folder may be anybody's, so only its texts are taken, clipped."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
        file_name, error = said.get("file"), said.get("error")
    except (ValueError, AttributeError):
        return Answer(pid, None, "an answer that cannot be read")
    if isinstance(file_name, str) and "/" not in file_name and (path.parent / file_name).is_file():
        return Answer(pid, file_name, None)
    return Answer(pid, None, error[:500] if isinstance(error, str) else "no reason was given")
