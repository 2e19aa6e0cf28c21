"""`kvatlas verify`: what it does.

Owns: which engines of a folder are verified, what cannot be, the exit code. Leaves to others:
reading calls (`kvatlas.events.live`), comparing (`kvatlas.engine.verifying`), views.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.events.live.call_reader import Calls
    from kvatlas.report.verify_document import VerifiedEngine

__all__ = ["DIFFERENT", "run_verify"]

DIFFERENT = 1
"""The exit code where recording and twin part."""

_REMEDY = "record again with a larger KVATLAS_RECORD_BYTES"


def run_verify(recording: str, rank: int | None, json: str | None) -> int:
    """Verify a recording's engines, print it, return the exit code. Raises: InputError."""
    if json is not None:
        require_writable(json, "--json", recording)
    try:
        engines = [_verified(folder) for folder in _folders(recording, rank)]
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    from kvatlas.report.verify_document import VerifyDocument

    document = VerifyDocument(recording, tuple(engines))
    if json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(json, json_bytes(document.to_dict()), "--json")
    if json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.verify_terminal import print_verify

        print_verify(make_console(), document)
    return 0 if document.identical else DIFFERENT


def _folders(recording: str, rank: int | None) -> list[Path]:
    """Return the engines' folders. Raises: InputError where there is none."""
    path = Path(recording)
    if path.is_file():
        from kvatlas.engine.verifying import engine_config
        from kvatlas.events import open_recording

        # A file holds a replay's events: the settings say that there is nothing to verify.
        engine_config(open_recording(recording).header, recording)
    if not path.is_dir():
        raise InputError("no such recording", file=recording, remedy="name a folder")
    from kvatlas.events.live.folders import engine_folder, engine_folders

    folders = engine_folders(path)
    if not folders:
        return [engine_folder(recording)]
    if rank is not None:
        folders = [folder for folder in folders if folder.name.split("-")[1:2] == [str(rank)]]
        if not folders:
            raise InputError("no engine of this rank", file=recording, field="--engine", value=rank)
    return folders


def _verified(folder: Path) -> VerifiedEngine:
    from kvatlas.engine.verifying import engine_config, verify_calls
    from kvatlas.events.live.call_reader import Calls
    from kvatlas.events.live.folders import read_facts
    from kvatlas.report.verify_document import VerifiedEngine

    source = str(folder)
    facts = read_facts(folder)
    config = engine_config(facts.header, source)
    unmodelled = facts.live.get("unmodelled")
    _refuse_unmodelled(unmodelled if isinstance(unmodelled, list) else (), source)
    if facts.sample < 1:
        raise InputError(
            "only windows of steps were recorded: there is no state to begin from", file=source,
            field="sample", value=facts.sample, remedy="record without KVATLAS_RECORD_SAMPLE",
        )  # fmt: skip
    calls = Calls(folder)
    if not calls.whole:
        raise InputError("its beginning was dropped to keep it bounded", file=source,
                         remedy=_REMEDY)  # fmt: skip
    with ProgressLine("verifying", None, "calls") as progress:
        found = verify_calls(config, calls, progress.update)
    _refuse_unmodelled(sorted(calls.unmodelled), source)
    return VerifiedEngine(folder.name, calls.header.engine, found, _notes(calls, found.identical))


def _notes(calls: Calls, identical: bool) -> tuple[str, ...]:
    """Say how much of the recording was compared."""
    if not identical:
        return ()
    if not calls.whole:
        return ("up to a gap in the recording: what comes after it was not compared",)
    if not calls.ended:
        return ("the recording was not closed: up to the last complete step",)
    return ()


def _refuse_unmodelled(used: object, source: str) -> None:
    """Refuse what the twin does not model, by its names."""
    names = [str(name) for name in used] if isinstance(used, list | tuple) else []
    if names:
        raise InputError(
            "the twin does not model what this server uses", file=source, field="unmodelled",
            value=", ".join(names), remedy="verify takes recordings of vLLM without it",
        )  # fmt: skip
