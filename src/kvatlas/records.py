"""Arrays of records: NumPy structured dtypes that compiled code reads and writes as attributes.

Owns: how they are declared and made. Leaves to others: which fields there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Record", "Records", "one_record", "record_dtype", "records"]

Records = Any
"""An array of records, (n,) or (n, m); NumPy's types cannot name the fields."""
Record = Any
"""One record, passed by reference: fields are read and written as attributes."""


def record_dtype(**fields: str) -> np.dtype[np.void]:
    """Return an aligned record dtype with `fields` (name: NumPy type code).

    Raises: ValueError for a name that NumPy's records have themselves: uncompiled, it would be read
    instead of the field.
    """
    taken = [name for name in fields if hasattr(np.record, name)]
    if taken:
        raise ValueError(f"NumPy's records have a {taken[0]} of their own")
    return np.dtype(list(fields.items()), align=True)


def one_record(dtype: np.dtype[np.void], **values: float) -> Record:
    """Return one zeroed record of `dtype` with `values` set."""
    record = np.zeros(1, dtype).view(np.recarray)[0]
    for name, value in values.items():
        setattr(record, name, value)
    return record


def records(shape: int | tuple[int, ...], dtype: np.dtype[np.void]) -> Records:
    """Return zeroed records."""
    return np.zeros(shape, dtype).view(np.recarray)
