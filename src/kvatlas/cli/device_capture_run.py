"""`kvatlas device capture`: what it does.

Owns: checking the flags, becoming the command with the history on, asking and saying who answered.
Leaves to others: recording and the folder (`kvatlas.live`), becoming a command (`record_run`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from kvatlas.cli.device_capture import (
    DEFAULT_MAX_EVENTS,
    DEFAULT_STACKS,
    DEFAULT_WAIT_S,
    DeviceCaptureFlags,
)
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.record_run import become
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError
from kvatlas.live.history_folder import Answer, ask, living
from kvatlas.live.plugin import read_history_settings

__all__ = ["run_device_capture"]

_FLAG_OF_VARIABLE = {
    "KVATLAS_MEMORY_HISTORY": "DIR",
    "KVATLAS_MEMORY_HISTORY_EVENTS": "--max-events",
    "KVATLAS_MEMORY_HISTORY_STACKS": "--stacks",
}


def run_device_capture(flags: DeviceCaptureFlags) -> int:
    """Start or ask; return 0 when every process answered, 1 when one did not, 130 on Ctrl-C.

    Raises: InputError, also when nobody records into the folder.
    """
    if not flags.folder:
        raise InputError("name a folder", field="DIR", value=flags.folder)
    _require_together(flags)
    if flags.command:
        _start(flags)
    if flags.json is not None:
        require_writable(flags.json, "--json")
    if not 0 < flags.wait <= 3600:
        raise InputError("not above 0 and up to 3600 seconds", field="--wait", value=flags.wait)
    folder = Path(flags.folder)
    try:
        waited_for = len(living(folder)) if folder.is_dir() else 0
        if not waited_for:
            raise InputError(
                "no process records into it now", field="DIR", value=flags.folder,
                remedy=f"start the server with: kvatlas device capture {flags.folder} -- vllm "
                "serve MODEL; it needs a CUDA device",
            )  # fmt: skip
        with ProgressLine("Waiting for", waited_for, "processes") as line:
            answers = ask(folder, flags.wait, on_wait=line.update)
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except OSError as error:
        raise InputError(
            f"cannot ask: {error.strerror or error}", file=flags.folder, field="DIR"
        ) from error
    _report(flags, folder, answers, waited_for)
    return 0 if len(answers) == waited_for and all(each.file for each in answers) else 1


def _require_together(flags: DeviceCaptureFlags) -> None:
    """Refuse flags of asking beside a command to start, and the other way round."""
    asking = {"--wait": flags.wait != DEFAULT_WAIT_S, "--json": flags.json is not None}
    starting = {
        "--max-events": flags.max_events != DEFAULT_MAX_EVENTS,
        "--stacks": flags.stacks != DEFAULT_STACKS,
    }
    for flag, given in (asking if flags.command else starting).items():
        if given:
            raise InputError(
                "is for asking, and a command is started"
                if flags.command
                else "is for starting a command, and none is given",
                field=flag,
                remedy="leave it out" if flags.command else "add -- COMMAND, or leave it out",
            )


def _start(flags: DeviceCaptureFlags) -> None:
    said = {
        "KVATLAS_MEMORY_HISTORY": flags.folder,
        "KVATLAS_MEMORY_HISTORY_EVENTS": str(flags.max_events),
        "KVATLAS_MEMORY_HISTORY_STACKS": flags.stacks,
    }
    try:
        settings = read_history_settings(said)
    except InputError as error:
        error.field = _FLAG_OF_VARIABLE.get(error.field or "", error.field)
        raise
    # The server may change its folder before it uses the device.
    said["KVATLAS_MEMORY_HISTORY"] = str(settings.folder)
    assert flags.command is not None
    become(
        flags.command, said,
        f"snapshots go to {flags.folder}; ask for one with: kvatlas device capture {flags.folder}",
        "kvatlas device capture DIR -- vllm serve MODEL",
    )  # fmt: skip


def _report(flags: DeviceCaptureFlags, folder: Path, answers: list[Answer], asked: int) -> None:
    written = [str(folder / each.file) for each in answers if each.file is not None]
    failed = {each.pid: each.error for each in answers if each.error is not None}
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        document = {
            "schema": 1,
            "folder": flags.folder,
            "asked": asked,
            "snapshots": written,
            "failed": [{"pid": pid, "error": error} for pid, error in failed.items()],
            "silent": asked - len(answers),
        }
        write_output(flags.json, json_bytes(document), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.plain_text import plain

        for path in written:
            print(plain(path, 1000))  # noqa: T201
        for pid, error in failed.items():
            print(f"kvatlas: process {pid}: {plain(error, 500)}", file=sys.stderr)  # noqa: T201
        if asked > len(answers):
            silent = f"{asked - len(answers)} of {asked} processes did not answer"
            print(f"kvatlas: {silent} within {flags.wait:g} s", file=sys.stderr)  # noqa: T201
