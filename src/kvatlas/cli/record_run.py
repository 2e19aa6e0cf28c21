"""`kvatlas record`: what it does.

Owns: checking the flags, the environment that the plugin reads, becoming the command. Leaves to
others: recording (`kvatlas.live`), in the processes that the command starts.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import NoReturn

from kvatlas.errors import InputError
from kvatlas.live.plugin import read_settings

__all__ = ["become", "run_record"]


def run_record(
    folder: str, command: list[str], most_bytes: str, sample: float, memory_interval: float
) -> None:
    """Replace this process by the command, told to record. Raises: InputError naming the flag."""
    if not folder:
        raise InputError("name a folder", field="DIR", value=folder)
    said = {
        "KVATLAS_RECORD": folder,
        "KVATLAS_RECORD_BYTES": most_bytes,
        "KVATLAS_RECORD_SAMPLE": f"{sample:g}",
        "KVATLAS_MEMORY_INTERVAL": f"{memory_interval:g}",
    }
    # The server may change its folder before it makes an engine.
    said["KVATLAS_RECORD"] = str(read_settings(said).folder)
    become(
        command, said, f"recording to {folder}; look with: kvatlas top {folder}",
        "kvatlas record DIR -- vllm serve MODEL",
    )  # fmt: skip


def become(command: list[str], said: Mapping[str, str], line: str, example: str) -> NoReturn:
    """Say `line` and replace this process by `command`, with `said` in its environment.

    Raises: InputError when it cannot be run, or vLLM would not load the plugin; `example` shows
    how the command is written.
    """
    chosen = os.environ.get("VLLM_PLUGINS")
    if chosen is not None and "kvatlas" not in chosen.split(","):
        raise InputError(
            "vLLM is told to load other plugins only", field="VLLM_PLUGINS", value=chosen,
            remedy="add kvatlas to it",
        )  # fmt: skip
    program = shutil.which(command[0])
    if program is None:
        raise InputError(
            "no such program", field="COMMAND", value=command[0],
            remedy=f"write it behind --: {example}",
        )  # fmt: skip
    print(f"kvatlas: {line}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
    try:
        os.execve(program, command, {**os.environ, **said})
    except OSError as error:
        raise InputError(
            f"cannot be run: {error.strerror}", field="COMMAND", value=program
        ) from error
