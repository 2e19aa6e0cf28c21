"""The keys that our own anonymised export adds to Mooncake's form, read back and checked.

Owns: `ExportedRow` and the columns `session`, `parent`, `priority` and `salt` that only an export
has. A row of an export also states `block_size`, the tokens of one id, and `covers_output`, true
when the ids cover prompt and output; both are the same on every row. Written by
`kvatlas.workload.export`; the reader is `mooncake`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.readers.columns import int_column
from kvatlas.workload.readers.text import Chunk

__all__ = ["Exported", "ExportedRow"]

_INT32_END = 2**31


class ExportedRow(msgspec.Struct, gc=False):
    """One request of an export."""

    timestamp: float
    input_length: int
    output_length: int
    block_size: int
    hash_ids: list[int]
    covers_output: bool = False
    session: int = -1
    parent: int = -1
    priority: int = 0
    cache_salt: int = 0


class Exported:
    """The additional columns of an export, appended chunk by chunk; `first` speaks for all rows."""

    def __init__(self, first: ExportedRow) -> None:
        self.block_size, self.covers_output = first.block_size, first.covers_output
        self._session = array("i")
        self._parent = array("i")
        self._priority = array("i")
        self._salt = array("i")

    def add(self, decoded: Sequence[ExportedRow], chunk: Chunk) -> NDArray[np.int64]:
        """Append a chunk's rows and return their salts. Raises: InputError for a bad row."""

        def column(field: str, low: int) -> NDArray[np.int64]:
            values = [getattr(row, field) for row in decoded]
            numbers = int_column(values, chunk.file, field, chunk.line_number)
            bad = (numbers < low) | (numbers >= _INT32_END)
            _refuse(bad, "out of range", field, numbers, chunk)
            return numbers

        rows = np.arange(len(self._session), len(self._session) + len(decoded))
        sizes, covers = column("block_size", 1), column("covers_output", 0)
        differs = "not as in the first row"
        _refuse(sizes != self.block_size, differs, "block_size", sizes, chunk)
        _refuse(covers != self.covers_output, differs, "covers_output", covers, chunk)
        session, parent = column("session", -1), column("parent", -1)
        _refuse(parent >= rows, "not an earlier request", "parent", parent, chunk)
        self._session.frombytes(session.astype(np.int32).tobytes())
        of_parent = np.array(self._session)[parent]
        _refuse(
            (parent >= 0) & (of_parent != session), "of another session", "parent", parent, chunk
        )
        self._parent.frombytes(parent.astype(np.int32).tobytes())
        priority = column("priority", -_INT32_END)
        self._priority.frombytes(priority.astype(np.int32).tobytes())
        salt = column("cache_salt", 0)
        self._salt.frombytes(salt.astype(np.int32).tobytes())
        return salt

    def columns(self) -> dict[str, NDArray[np.int32]]:
        """Return the columns for `Rows.finish`, sessions and salts made dense."""
        session = np.array(self._session, dtype=np.int32)
        known = session >= 0
        session[known] = np.unique(session[known], return_inverse=True)[1]
        _, salt = np.unique(np.append(0, self._salt), return_inverse=True)
        return {
            "session": session,
            "parent": np.array(self._parent, dtype=np.int32),
            "priority": np.array(self._priority, dtype=np.int32),
            "salt": salt[1:].astype(np.int32),
        }


def _refuse(
    bad: NDArray[np.bool_], what: str, field: str, values: NDArray[np.int64], chunk: Chunk
) -> None:
    if not bad.any():
        return
    row = int(bad.argmax())
    raise InputError(
        what,
        file=str(chunk.file),
        line=chunk.line_number(row),
        field=field,
        value=values[row].item(),
        remedy="export the trace again",
    )
