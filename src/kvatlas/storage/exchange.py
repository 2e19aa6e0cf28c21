"""Blocks between two memories, and between a memory and a buffer of the user's.

Owns: what fits what, and the way over a buffer. Leaves to others: the copies (`host`, `device`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.storage.device import DeviceMemory, import_torch
from kvatlas.storage.host import HostMemory, copy_between
from kvatlas.storage.layouts import Placed
from kvatlas.storage.moves import Ids

Memory = HostMemory | DeviceMemory
BUFFER_BYTES = 64 * 2**20
_ORDER = ("layer", "kv", "slot", "head", "dim")


def copy_to(source: Memory, target: Memory, sources: Ids, targets: Ids) -> None:
    """Copy blocks of one memory to another."""
    if isinstance(source, HostMemory) and isinstance(target, HostMemory):
        copy_between(target.bytes, target.placed, targets, source.bytes, source.placed, sources)
        return
    step = max(1, BUFFER_BYTES // source.placed.shape.bytes_per_block)
    for first in range(0, len(sources), step):
        part = slice(first, first + step)
        rows = rows_on_host(source, sources[part])
        placed = source.placed.rows
        if isinstance(target, HostMemory):
            target.scatter(targets[part], rows, placed)
        else:
            own = target.placed.rows
            if own.axes != placed.axes:
                rows = _reordered(rows, placed, own)
            target.scatter(
                targets[part], import_torch().from_numpy(rows).to(target.bytes.device), own
            )


def rows_on_host(memory: Memory, ids: Ids) -> NDArray[np.uint8]:
    """Return blocks as rows (n, bytes per block) on the host, in the layout's own order."""
    shape = (len(ids), memory.placed.shape.bytes_per_block)
    if isinstance(memory, HostMemory):
        rows = np.empty(shape, np.uint8)
        memory.gather(ids, rows)
        return rows
    torch = import_torch()
    there = torch.empty(shape, dtype=torch.uint8, device=memory.bytes.device)
    memory.gather(ids, there)
    found: NDArray[np.uint8] = there.cpu().numpy()
    return found


def read_in_order(memory: Memory, ids: Ids, out: NDArray[np.uint8]) -> None:
    """Fill rows with blocks, each in the order layer, keys and values, slot, head, number."""
    wanted = Placed(memory.placed.shape, 1, ("block", *_ORDER))
    numbers = np.arange(len(ids), dtype=np.int64)
    if isinstance(memory, HostMemory):
        copy_between(out, wanted, numbers, memory.bytes, memory.placed, ids)
    else:
        rows = rows_on_host(memory, ids)
        copy_between(out, wanted, numbers, rows, memory.placed.rows, numbers)


def _reordered(rows: NDArray[np.uint8], placed: Placed, wanted: Placed) -> NDArray[np.uint8]:
    found = np.empty_like(rows)
    ids = np.arange(len(rows))
    copy_between(found, wanted, ids, rows, placed, ids)
    return found


def fresh_rows(count: int, bytes_per_block: int, *, backend: str, device: str) -> Any:
    """Return an unwritten buffer of `count` rows as the backend has them."""
    shape = (count, bytes_per_block)
    if backend == "numpy":
        return np.empty(shape, np.uint8)
    torch = import_torch()
    return torch.empty(shape, dtype=torch.uint8, device=device)


def require_rows(found: Any, count: int, bytes_per_block: int) -> Any:
    """Return `found` where it is (count, bytes per block) of uint8. Raises: InputError."""
    shape, dtype = getattr(found, "shape", None), str(getattr(found, "dtype", type(found)))
    if shape is None or tuple(shape) != (count, bytes_per_block):
        raise InputError(
            "a buffer of another shape",
            field="buffer",
            value=None if shape is None else tuple(shape),
            remedy=f"it is ({count}, {bytes_per_block}): a row per block",
        )
    if dtype.removeprefix("torch.") != "uint8":
        raise InputError(
            "a buffer of another dtype", field="buffer", value=dtype, remedy="view it as uint8"
        )
    return found


def as_memory(memory: Memory, rows: Any, field: str) -> Any:
    """Return rows as `memory` reads and writes them: a NumPy array, or a tensor on the device.

    Raises:
        InputError: not contiguous, or on another device.
    """
    if isinstance(memory, DeviceMemory):
        if isinstance(rows, np.ndarray) or rows.device != memory.bytes.device:
            raise InputError(
                "a buffer on another device", field=field, remedy=f"use {memory.bytes.device}"
            )
        contiguous = rows.is_contiguous()
    elif isinstance(rows, np.ndarray):
        contiguous = rows.flags.c_contiguous and (field != "out" or rows.flags.writeable)
    elif rows.device.type != "cpu":
        raise InputError("a buffer on another device", field=field, remedy="use the CPU's")
    else:
        contiguous, rows = rows.is_contiguous(), rows.numpy()
    if not contiguous:
        raise InputError("a buffer with gaps, or a read-only one", field=field, remedy="copy it")
    if isinstance(memory, HostMemory) and np.may_share_memory(rows, memory.bytes):
        raise InputError("a buffer in the pool's own memory", field=field, remedy="copy it")
    return rows
