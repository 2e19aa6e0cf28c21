"""`kvatlas report`: what it does.

Owns: checking outputs before the work, which view is written where, Ctrl-C, the exit code. Leaves
to others: the analysis (`run_analysis`) and every view.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.report.reporter import FragmentationReporter

__all__ = ["INTERRUPTED", "ReportFlags", "run_report"]

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class ReportFlags:
    """What was asked for."""

    run: str
    what_if: bool = True
    json: str | None = None
    html: str | None = None
    csv: str | None = None
    parquet: str | None = None
    perfetto: str | None = None


def run_report(flags: ReportFlags) -> int:
    """Analyse a recording, write and print its reports; return the exit code.

    Raises: InputError.
    """
    _check_outputs(flags)
    try:
        reporter = _analysed(flags)
        _write(flags, reporter)
        if flags.json != STDOUT:
            reporter.terminal()
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return 0


def _analysed(flags: ReportFlags) -> FragmentationReporter:
    from kvatlas.events import open_recording

    recording = open_recording(flags.run)
    from kvatlas.cli.run_analysis import analyse
    from kvatlas.report.reporter import FragmentationReporter

    document = analyse(recording, what_if=flags.what_if, frames=flags.html is not None)
    return FragmentationReporter(document, recording)


def _write(flags: ReportFlags, reporter: FragmentationReporter) -> None:
    if flags.json is not None:
        write_output(flags.json, reporter.json(), "--json")
    if flags.html is not None:
        write_output(flags.html, reporter.html(), "--html")
    written: tuple[tuple[str, str | None, Callable[[str], object]], ...] = (
        ("--csv", flags.csv, reporter.csv),
        ("--parquet", flags.parquet, reporter.parquet),
        ("--perfetto", flags.perfetto, reporter.perfetto),
    )
    for flag, path, write in written:
        if path is not None:
            with _writing(path, flag):
                write(path)


def _check_outputs(flags: ReportFlags) -> None:
    files = {"--json": flags.json, "--html": flags.html, "--perfetto": flags.perfetto}
    for flag, path in files.items():
        if path is not None:
            require_writable(path, flag, flags.run)
            if path == STDOUT and flag != "--json":
                raise InputError("not for a terminal", field=flag, remedy="name a file")
    named = [os.path.realpath(path) for path in files.values() if path not in (None, STDOUT)]
    if len(set(named)) < len(named):
        raise InputError("two reports in one file", value=named[0], remedy="name another file")
    for flag, folder in (("--csv", flags.csv), ("--parquet", flags.parquet)):
        if folder is not None:
            _require_folder(folder, flag, flags.run)


def _require_folder(path: str, flag: str, source: str) -> None:
    """Check that tables can be put into the folder `path`, or that it can be made.

    Raises: InputError.
    """
    folder = Path(path)
    if not path or path == STDOUT or (folder.exists() and not folder.is_dir()):
        raise InputError("not a folder", field=flag, value=path, remedy="name a folder")
    recording = Path(source).resolve()
    named_like_a_table = recording.name.startswith(("figures.", "series.", "table_", "histogram_"))
    if named_like_a_table and recording.parent == folder.resolve():
        raise InputError("would overwrite the recording", field=flag, remedy="name another folder")
    parent = folder if folder.is_dir() else folder.absolute().parent
    if not parent.is_dir():
        raise InputError("no such directory", file=str(parent), field=flag, remedy="make it first")
    if not os.access(parent, os.W_OK):
        raise InputError("permission denied", file=path, field=flag, remedy="choose another path")


@contextmanager
def _writing(path: str, flag: str) -> Iterator[None]:
    """Turn what goes wrong while writing to `path` into an InputError that names the flag."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            file=path,
            field=flag,
            remedy="choose another path",
        ) from error
