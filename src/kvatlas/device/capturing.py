"""`capture`: a memory snapshot of what this process does, where it uses CUDA.

Owns: beginning and ending the history around a piece of a program. Leaves to others: PyTorch's
calls (`kvatlas.live.memory_history`), servers (`kvatlas device capture`), reading (`reading`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from kvatlas.errors import InputError
from kvatlas.live.memory_history import begin_history, end_history, write_snapshot

__all__ = ["capture"]

_STACKS = ("python", "all")


@contextmanager
def capture(
    path: str | PathLike[str], *, max_events: int = 100_000, stacks: str = "python"
) -> Iterator[None]:
    """Record the allocator's history in the block, and write the snapshot when it ends.

    It is written also when the block raises, as it does out of memory: the failure is the trace's
    last event but for what is freed on the way out.

    Args:
        path: the file; written whole or not at all.
        max_events: of the history, the newest ones; PyTorch keeps them in memory, some kilobytes
            each with their stacks.
        stacks: `python`, or `all` for native calls, too.

    Raises: InputError without torch, without a CUDA device, or when the file cannot be written.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError("no such directory", file=target.parent, field="path")
    if max_events < 1:
        raise InputError("not a number of events", field="max_events", value=max_events)
    if stacks not in _STACKS:
        raise InputError(
            "no such stacks", field="stacks", value=stacks, remedy=f"use {' or '.join(_STACKS)}"
        )
    torch = _torch_with_cuda()
    begin_history(torch, max_events, stacks)
    try:
        yield
    finally:
        try:
            write_snapshot(torch, target)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot be written: {reason}", file=target, field="path") from error
        finally:
            end_history(torch)


def _torch_with_cuda() -> Any:
    try:
        torch = import_module("torch")
    except ModuleNotFoundError as missing:
        raise InputError(
            "a capture needs torch", field="torch", remedy="pip install torch, built with CUDA"
        ) from missing
    if not torch.cuda.is_available():
        raise InputError(
            "no CUDA device here, so there is no allocator to capture",
            field="torch",
            value=torch.__version__,
            remedy="capture in the process that uses the device",
        )
    return torch
