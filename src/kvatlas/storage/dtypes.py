"""Number formats of a KV cache by name, and what each backend calls them.

Owns: names and bytes. Leaves to others: memory (`host`, `device`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvatlas.errors import InputError

__all__ = ["DTYPES", "Number", "number"]


@dataclass(frozen=True, slots=True)
class Number:
    """One number format: its name, its bytes, and whether NumPy has it (torch has them all)."""

    name: str
    itemsize: int
    in_numpy: bool


_ALL = (
    Number("float32", 4, True),
    Number("float16", 2, True),
    Number("bfloat16", 2, False),
    Number("float8_e4m3fn", 1, False),
    Number("float8_e5m2", 1, False),
)
DTYPES = {each.name: each for each in _ALL}
"""Every number format by name."""

_ALSO = {
    "fp32": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}


def number(name: str, backend: str) -> Number:
    """Return the format of that name (also fp32, fp16, bf16, fp8, fp8_e4m3, fp8_e5m2).

    Raises:
        InputError: unknown, or NumPy does not have it.
    """
    found = DTYPES.get(_ALSO.get(name, name)) if isinstance(name, str) else None
    if found is None:
        raise InputError(
            "unknown number format",
            field="dtype",
            value=name,
            remedy=f"use one of {', '.join(DTYPES)}",
        )
    if backend == "numpy" and not found.in_numpy:
        raise InputError(
            f"NumPy has no {found.name}",
            field="dtype",
            value=name,
            remedy="use backend='torch', or float16",
        )
    return found


def numpy_dtype(of: Number) -> np.dtype[Any]:
    """Return NumPy's dtype of a format that it has."""
    return np.dtype(of.name)
