"""Fetches public traces into the user's cache, checked and resumable. Needs the extra `data`.

Owns: where traces are kept and the checksum before a file gets its name. The registry is
`public_traces`, the bytes come through `download`. Nothing is fetched that has no known SHA-256.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from kvatlas.errors import InputError
from kvatlas.workload.download import Progress, ResumingDownloader
from kvatlas.workload.public_traces import TRACES, PublicTrace, RemoteFile, public_trace

__all__ = ["TRACES", "Progress", "PublicTrace", "RemoteFile", "cached", "fetch", "trace_cache_dir"]


def trace_cache_dir() -> Path:
    """Return where fetched traces are kept: `$KVATLAS_CACHE/traces`, else in the user's cache.

    Raises: InputError without the extra `data`.
    """
    chosen = os.environ.get("KVATLAS_CACHE")
    return Path(chosen or _pooch().os_cache("kvatlas")) / "traces"


def cached(trace: str | PublicTrace, *, directory: Path | None = None) -> Path | None:
    """Return where a trace was fetched to, or None; sizes are compared, checksums are not."""
    known = public_trace(trace) if isinstance(trace, str) else trace
    folder = _folder(known, directory)
    for file in known.files:
        try:
            size_bytes = (folder / file.name).stat().st_size
        except OSError:
            return None
        if file.size_bytes not in (None, size_bytes):
            return None
    return _place(known, folder)


def fetch(
    trace: str | PublicTrace,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
    attempts: int = 4,
    wait_s: float = 1.0,
) -> Path:
    """Return the path of a public trace, downloading what is not there yet.

    A trace of one file gives the file, one of several the directory that holds them. A file gets
    its name only once its SHA-256 is right; until then it is `<name>.part`, from which the next run
    (after Ctrl-C, say) goes on. A file that is there already is hashed and kept if right.
    `attempts` and `wait_s` are those of `ResumingDownloader`.

    Raises: InputError, one line: unknown name, network, disk, or a file that is not the known one.
    """
    known = public_trace(trace) if isinstance(trace, str) else trace
    folder = _folder(known, directory)
    for file in known.files:
        downloader = ResumingDownloader(
            folder / file.name, file.size_bytes, progress, attempts, wait_s
        )
        try:
            _retrieve(file, folder, downloader)
        except _WrongChecksum:
            if not downloader.resumed:
                raise _wrong(file) from None
            # The kept part may have been damaged or of another version: once more from zero.
            try:
                _retrieve(file, folder, downloader)
            except _WrongChecksum:
                raise _wrong(file) from None
    return _place(known, folder)


class _WrongChecksum(Exception):
    """pooch found another SHA-256 than the known one."""


def _retrieve(file: RemoteFile, folder: Path, downloader: ResumingDownloader) -> None:
    pooch = _pooch()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                file.url,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=folder,
                downloader=downloader,
            )
    except ValueError as error:
        raise _WrongChecksum from error
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            file=str(folder),
            remedy="set KVATLAS_CACHE to a directory that can be written",
        ) from error


def _wrong(file: RemoteFile) -> InputError:
    return InputError(
        "the downloaded file is not the known one (its SHA-256 differs) and was deleted",
        value=file.url,
        remedy="try again later, or update kvatlas if the trace has moved",
    )


def _folder(trace: PublicTrace, directory: Path | None) -> Path:
    return (trace_cache_dir() if directory is None else directory) / trace.name


def _place(trace: PublicTrace, folder: Path) -> Path:
    return folder / trace.files[0].name if len(trace.files) == 1 else folder


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError:
        raise InputError(
            "fetching traces needs the extra 'data'", remedy="pip install 'kvatlas[data]'"
        ) from None
    return pooch  # type: ignore[no-any-return]


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from writing to the terminal: the caller's `progress` tells what happens."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
