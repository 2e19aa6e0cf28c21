"""The entry point that vLLM loads: records when the environment asks for it, else does nothing.

Owns: reading the environment, which versions of vLLM are known, standing by until a scheduler is
made. Leaves to others: the recording (`session`), the allocator's history (`memory_history`).

vLLM calls `register` in every process; only the one that makes a scheduler gets a recording, and
only those that use a device get a memory history.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.live.memory_history import HistorySettings

__all__ = ["SUPPORTED", "read_history_settings", "read_settings", "register"]

SUPPORTED = ("0.32",)
"""Versions of vLLM whose calls the hooks were written for and tested on."""

_LOG = logging.getLogger("vllm.kvatlas")
_LEAST_BYTES = 1 << 20


def register() -> None:
    """Stand by to record what the environment asks for: nothing without a variable of ours."""
    if os.environ.get("KVATLAS_RECORD"):
        _register_recording()
    if os.environ.get("KVATLAS_MEMORY_HISTORY"):
        _register_history()


def _register_recording() -> None:
    try:
        settings = read_settings(os.environ)
        _stand_by(settings)
    except InputError as error:
        _LOG.warning("kvatlas does not record: %s", error)
    except Exception as error:
        _LOG.warning("kvatlas does not record: %s: %s", type(error).__name__, error)


def _register_history() -> None:
    try:
        settings = read_history_settings(os.environ)
        import torch

        from kvatlas.live.memory_history import stand_by

        if not stand_by(torch, settings, _LOG.warning):
            # This process and those that it starts share one PyTorch: it need not be said again.
            del os.environ["KVATLAS_MEMORY_HISTORY"]
    except InputError as error:
        _LOG.warning("kvatlas records no memory history: %s", error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _LOG.warning("kvatlas records no memory history: %s", reason)


def read_history_settings(environment: Mapping[str, str]) -> HistorySettings:
    """Return the memory history that the environment asks for. Raises: InputError."""
    from kvatlas.live.memory_history import HistorySettings

    folder = _folder(environment, "KVATLAS_MEMORY_HISTORY")
    events = environment.get("KVATLAS_MEMORY_HISTORY_EVENTS", "100000")
    if not (events.isascii() and events.isdigit() and 1000 <= int(events) <= 10_000_000):
        raise InputError(
            "must be a whole number from 1000 to 10000000",
            field="KVATLAS_MEMORY_HISTORY_EVENTS",
            value=events,
        )
    stacks = environment.get("KVATLAS_MEMORY_HISTORY_STACKS", "python")
    if stacks not in ("python", "all"):
        raise InputError(
            "must be python or all", field="KVATLAS_MEMORY_HISTORY_STACKS", value=stacks
        )
    return HistorySettings(folder, int(events), stacks)


def read_settings(environment: Mapping[str, str]) -> Any:
    """Return the settings that the environment asks for. Raises: InputError naming a variable."""
    from kvatlas.live.monitor import memory_interval_s
    from kvatlas.live.session import Settings

    folder = _folder(environment, "KVATLAS_RECORD")
    most = parse_bytes(
        environment.get("KVATLAS_RECORD_BYTES", "256MiB"), field="KVATLAS_RECORD_BYTES"
    )
    if most < _LEAST_BYTES:
        raise InputError("must be at least 1MiB", field="KVATLAS_RECORD_BYTES", value=most)
    return Settings(
        folder=folder,
        most_bytes=most,
        sample=_number(environment, "KVATLAS_RECORD_SAMPLE", 1.0, 1e-6, 1.0),
        memory_interval_s=memory_interval_s(environment.get("KVATLAS_MEMORY_INTERVAL")),
    )


def _folder(environment: Mapping[str, str], name: str) -> Path:
    text = environment[name]
    try:
        folder = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            f"no such home: {error}", field=name, value=text, remedy="write it out"
        ) from error
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "must name a folder", field=name, value=str(folder),
            remedy="name one that does not exist yet",
        )  # fmt: skip
    return folder


def _number(
    environment: Mapping[str, str], name: str, otherwise: float, least: float, most: float
) -> float:
    text = environment.get(name)
    if text is None:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise InputError(f"must be a number from {least:g} to {most:g}", field=name, value=text)
    return value


def _stand_by(settings: Any) -> None:
    import vllm

    version = vllm.__version__
    if not version.startswith(tuple(f"{known}." for known in SUPPORTED)):
        _LOG.warning(
            "kvatlas does not record: it knows vLLM %s, this is %s; vLLM runs on undisturbed",
            ", ".join(SUPPORTED), version,
        )  # fmt: skip
        return
    from vllm.v1.core.sched.scheduler import Scheduler

    make = Scheduler.__init__
    if hasattr(make, "kvatlas_stands_by"):
        return

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        try:
            from kvatlas.live.session import Session

            session = Session(self, settings, _LOG.warning)
            _LOG.info("kvatlas records to %s", session.folder)
        except Exception as error:
            _LOG.warning("kvatlas does not record: %s: %s", type(error).__name__, error)

    init.kvatlas_stands_by = True  # type: ignore[attr-defined]
    Scheduler.__init__ = init
