"""The memory that an arena is cut from: the host's, or a tensor's on any device.

Owns: getting it, typed views of it, and moving bytes inside it. Leaves to others: who holds which
bytes. PyTorch is imported only for tensors and devices.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError

__all__ = ["Backing", "HostBacking", "TorchBacking", "make_backing"]

_STAGED_BYTES = 32 << 20


class Backing(Protocol):
    """Memory of `nbytes` from `address` on."""

    address: int
    nbytes: int
    device: str

    def view(self, offset: int, nbytes: int, dtype: str) -> Any:
        """Return the bytes as a flat array of `dtype`, without a copy. Raises: InputError."""

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy bytes to a lower offset; the two may overlap."""


class HostBacking:
    """A flat array of bytes in host memory."""

    device = "cpu"

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.address, self.nbytes = int(array.ctypes.data), int(array.nbytes)
        self._bytes = array

    def view(self, offset: int, nbytes: int, dtype: str) -> Any:
        """Return the bytes as a flat NumPy array of `dtype`; O(1)."""
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            raise InputError(
                "NumPy has no such type",
                field="dtype",
                value=dtype,
                remedy="use uint8, float32, ...",
            ) from None
        _check_whole(nbytes, wanted.itemsize)
        return self._bytes[offset : offset + nbytes].view(wanted)

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy with memmove."""
        ctypes.memmove(self.address + target, self.address + source, nbytes)


class TorchBacking:
    """A flat uint8 tensor on any device."""

    def __init__(self, tensor: Any) -> None:
        self.address, self.nbytes = int(tensor.data_ptr()), int(tensor.numel())
        self.device = str(tensor.device)
        self._bytes = tensor

    def view(self, offset: int, nbytes: int, dtype: str) -> Any:
        """Return the bytes as a flat tensor of `dtype`; O(1)."""
        import torch

        wanted = getattr(torch, dtype, None)
        if not isinstance(wanted, torch.dtype):
            raise InputError(
                "PyTorch has no such type",
                field="dtype",
                value=dtype,
                remedy="use uint8, bfloat16, ...",
            )
        _check_whole(nbytes, wanted.itemsize)
        return self._bytes.narrow(0, offset, nbytes).view(wanted)

    def move(self, source: int, target: int, nbytes: int) -> None:
        """Copy on the device, through a piece of 32 MiB where the two overlap."""
        step = nbytes if target + nbytes <= source else _STAGED_BYTES
        for start in range(0, nbytes, step):
            length = min(step, nbytes - start)
            piece = self._bytes.narrow(0, source + start, length)
            self._bytes.narrow(0, target + start, length).copy_(
                piece if step == nbytes and target + nbytes <= source else piece.clone()
            )


def make_backing(nbytes: int | None, device: str, buffer: Any) -> Backing:
    """Return the memory asked for.

    Args:
        nbytes: how much to get; None with a buffer.
        device: `cpu`: pages of the host that the system commits when they are first written;
            anything else is a device of PyTorch.
        buffer: a writable NumPy array or a tensor, contiguous, to use instead.

    Raises: InputError: neither or both given, not contiguous or not writable, no PyTorch.
    """
    if (nbytes is None) == (buffer is None):
        raise InputError(
            "say how many bytes, or give a buffer", field="capacity_bytes", value=nbytes
        )
    if buffer is not None:
        return _backing_of(buffer)
    assert nbytes is not None
    _require_int(nbytes)
    if nbytes < 1:
        raise InputError("must be at least 1 byte", field="capacity_bytes", value=nbytes)
    if device == "cpu":
        return HostBacking(_host_bytes(nbytes))
    try:
        import torch

        return TorchBacking(torch.empty(nbytes, dtype=torch.uint8, device=device))
    except ImportError:
        remedy = "install PyTorch, or use device cpu"
        raise InputError("needs PyTorch", field="device", value=device, remedy=remedy) from None
    except (AssertionError, RuntimeError) as error:  # no such device, or its memory is full
        reason = str(error).splitlines()[0]
        raise InputError(reason, field="device", value=device) from error


def _host_bytes(nbytes: int) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(
            f"the system has no such memory: {error}", field="capacity_bytes", value=nbytes
        ) from error


def _backing_of(buffer: Any) -> Backing:
    torch = sys.modules.get("torch")  # a tensor's module is there
    if torch is not None and isinstance(buffer, torch.Tensor):
        if not buffer.is_contiguous() or buffer.numel() == 0:
            raise InputError("must be contiguous and not empty", field="buffer", value=buffer.shape)
        return TorchBacking(buffer.detach().view(-1).view(torch.uint8))
    if not isinstance(buffer, np.ndarray):
        raise InputError("must be a NumPy array or a tensor", field="buffer", value=type(buffer))
    if not (buffer.flags.c_contiguous and buffer.flags.writeable and buffer.size):
        raise InputError(
            "must be contiguous, writable and not empty", field="buffer", value=buffer.shape
        )
    return HostBacking(buffer.reshape(-1).view(np.uint8))


def _check_whole(nbytes: int, itemsize: int) -> None:
    if nbytes % itemsize:
        raise InputError(
            f"{nbytes} bytes are no whole number of elements of {itemsize} bytes", field="dtype"
        )


def _require_int(nbytes: object) -> None:
    if isinstance(nbytes, bool) or not isinstance(nbytes, int | np.integer):
        raise InputError("must be a whole number", field="capacity_bytes", value=nbytes)
