"""An allocation of an arena, and which sizes and alignments one can ask for.

Owns: the face of an allocation, the checks. Leaves to others: where it lies (`gpu_memory_pool`).
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.storage.arena.gpu_memory_pool import GPUMemoryPool

__all__ = ["Allocation", "no_allocation", "power_of_two", "whole", "whole_row"]

_LARGEST_ALIGNMENT = 1 << 30


class Allocation:
    """Some bytes of a pool that are yours until you free them.

    Attributes:
        nbytes: how many you asked for; handle: its number in the bulk calls.
    """

    __slots__ = ("_pool", "handle", "nbytes")

    def __init__(self, pool: GPUMemoryPool, handle: int, nbytes: int) -> None:
        self._pool, self.handle, self.nbytes = pool, handle, nbytes

    @property
    def offset(self) -> int:
        """Where it begins in the buffer; compaction moves it. Raises: InputError when freed."""
        return self._pool.offset_of(self.handle)

    @property
    def address(self) -> int:
        """The address of its first byte, on the pool's device."""
        return self._pool.base_address + self.offset

    def view(self, dtype: str = "uint8") -> Any:
        """Return its bytes as a flat NumPy array or tensor, without a copy.

        Valid until it is freed or the pool compacts. Raises: InputError for a type that the backing
        has not, or whose size does not divide the bytes.
        """
        return self._pool.view(self.handle, self.nbytes, dtype)

    def free(self) -> None:
        """Give it back. Raises: InputError when that has been done."""
        self._pool.free(self)

    def __repr__(self) -> str:
        return f"Allocation({self.nbytes} bytes, handle {self.handle:#x})"


def whole(value: int, field: str) -> int:
    """Return a whole number as Python's. Raises: InputError."""
    try:
        return index(value)
    except TypeError as error:
        raise InputError("must be a whole number", field=field, value=value) from error


def whole_row(values: ArrayLike, field: str) -> NDArray[np.int64]:
    """Return whole numbers as one row (n,). Raises: InputError for another shape, or fractions."""
    row = np.asarray(values)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise InputError("must be one row of whole numbers", field=field)
    if row.dtype == np.uint64:  # what would wrap is too large for any pool, and stays so
        row = np.minimum(row, np.iinfo(np.int64).max)
    return np.ascontiguousarray(row, np.int64)


def power_of_two(value: int, field: str, least: int) -> int:
    """Return a power of two from `least` on that an address can have. Raises: InputError."""
    value = whole(value, field)
    if not least <= value <= _LARGEST_ALIGNMENT or value & (value - 1):
        raise InputError(
            f"must be a power of two from {least} to {_LARGEST_ALIGNMENT}", field=field, value=value
        )
    return value


def no_allocation(what: object) -> InputError:
    """Return the error about what is not allocated, or no longer."""
    return InputError(
        "is no allocation of this pool",
        field="allocation",
        value=what,
        remedy="was it freed before?",
    )
