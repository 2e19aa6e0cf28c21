"""Downloads one file so that it can stop at any moment and go on later.

Owns: the `.part` file beside the target, HTTP ranges, retries and the lock against a second
process. Checksums and the final name are pooch's (see `fetch`), for which `ResumingDownloader` is a
downloader; pooch's own starts from zero each time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kvatlas.errors import InputError

if TYPE_CHECKING:
    import requests

__all__ = ["Progress", "ResumingDownloader"]

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are here, and the bytes in all (None: unknown)."""

_PIECE_BYTES = 1 << 16  # what a broken connection can lose of what it brought
_CONNECT_S, _READ_S = 15.0, 60.0


@dataclass(slots=True)
class ResumingDownloader:
    """A pooch downloader that keeps `<name>.part` and asks the server for the rest only.

    Attributes:
        target: the file's final place; `target` + ".part" holds what has arrived.
        expected_bytes: the file's size, if known; a server that offers another is refused at once.
        progress: told about every piece.
        attempts: tries in a row that bring nothing before giving up.
        wait_s: pause after the first of them, doubled each time.
        resumed: whether bytes of an earlier run were kept.
    """

    target: Path
    expected_bytes: int | None = None
    progress: Progress | None = None
    attempts: int = 4
    wait_s: float = 1.0
    resumed: bool = False

    @property
    def part(self) -> Path:
        """Where the unfinished file is."""
        return self.target.with_name(self.target.name + ".part")

    def __call__(self, url: str, output_file: str | IO[Any], pooch: object) -> None:
        """Bring the whole file and move it to `output_file`.

        An interrupt or a lost connection leaves the `.part` for the next run. Raises: InputError.
        """
        if not isinstance(output_file, (str, os.PathLike)):
            raise TypeError("pooch gives a downloader a path")
        try:
            with self.part.open("ab") as part:
                _lock(part, self.target)
                self.resumed = part.tell() > 0
                self._bring(url, part)
            self.part.replace(output_file)
        except OSError as error:
            # requests' errors are OSErrors too, and are handled below.
            raise InputError(
                f"cannot be written: {error.strerror or error}",
                file=str(self.part),
                remedy="check the disk, or set KVATLAS_CACHE to another directory",
            ) from error

    def _bring(self, url: str, part: IO[bytes]) -> None:
        """Append to `part` until the file is whole, over as many connections as that needs."""
        import requests

        failures = 0
        while True:
            before = part.tell()
            try:
                if self._connection(url, part):
                    return
                failures += 1
                reason = "the connection ended early"
            except requests.HTTPError as error:
                reason, passing = _status(error)
                if not passing:
                    raise _lost(url, reason, "") from None
                failures += 1
            except requests.RequestException as error:
                failures += 1
                reason = _reason(error)
            part.flush()
            if part.tell() > before:
                failures = 0
            if failures >= self.attempts:
                kept = f"{part.tell():,} bytes are kept, "
                raise _lost(url, reason, kept if part.tell() else "")
            time.sleep(self.wait_s * 2 ** max(failures - 1, 0))

    def _connection(self, url: str, part: IO[bytes]) -> bool:
        """Append what one connection brings; True when the file is whole."""
        import requests

        have = part.tell()
        # Compression on the way would make ranges and lengths count other bytes than the file's.
        headers = {"Accept-Encoding": "identity", "User-Agent": "kvatlas"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(
            url, headers=headers, stream=True, timeout=(_CONNECT_S, _READ_S)
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range", "").endswith(f"*/{have}"):
                    return True
                _restart(part)
                self.resumed = False
                return False
            response.raise_for_status()
            if have and not _continues(response, have):
                _restart(part)
                self.resumed, have = False, 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            if self.expected_bytes is not None and total not in (None, self.expected_bytes):
                raise self._other_file(url, total)
            for piece in response.iter_content(_PIECE_BYTES):
                part.write(piece)
                if self.expected_bytes is not None and part.tell() > self.expected_bytes:
                    raise self._other_file(url, part.tell())
                if self.progress is not None:
                    self.progress(self.target.name, part.tell(), total or self.expected_bytes)
            return total is None or part.tell() == total

    def _other_file(self, url: str, size_bytes: int | None) -> InputError:
        return InputError(
            f"the server has another file: {size_bytes} bytes instead of {self.expected_bytes}",
            value=url,
            remedy="the trace may have moved: update kvatlas, or fetch it by hand",
        )


def _continues(response: requests.Response, have: int) -> bool:
    """Return whether the server sends the file from byte `have` on (it may ignore the range)."""
    partial = response.status_code == 206
    return partial and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _restart(part: IO[bytes]) -> None:
    part.seek(0)
    part.truncate()


def _lock(part: IO[bytes], target: Path) -> None:
    """Hold `part` against other processes until it is closed (POSIX; elsewhere not at all)."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            "another process is fetching it", file=str(target), remedy="wait for that one"
        ) from None


def _status(error: requests.HTTPError) -> tuple[str, bool]:
    """Return what the server answered, and whether that may pass."""
    response = error.response
    if response is None:
        return str(error), True
    status = response.status_code
    return f"HTTP {status} {response.reason}", status >= 500 or status in (408, 429)


def _reason(error: Exception) -> str:
    """Return the innermost cause of a network error, which says what really happened."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__


def _lost(url: str, reason: str, kept: str) -> InputError:
    return InputError(
        f"cannot be downloaded: {reason}",
        value=url,
        remedy=f"{kept}run the command again" if kept else "check the network and the address",
    )
