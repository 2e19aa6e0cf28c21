"""The growing columns that every reader fills, and the checks that rows of every format pass.

Owns: validation of times and lengths, identities in the making (`Identities`), ordering, and the
finished `Workload`. Leaves to the readers: decoding, and what the fields are called.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.chain import Chainer
from kvatlas.workload.formats import trace_name
from kvatlas.workload.model import MAX_TOKENS, Workload
from kvatlas.workload.readers.order import sorted_by_arrival

__all__ = [
    "LENGTH_ONLY_NOTE",
    "FieldNames",
    "Identities",
    "LineOf",
    "Rows",
    "int_column",
    "no_links",
]

LENGTH_ONLY_NOTE = "prefix reuse is unknown in this format and is replayed as none"

LineOf = Callable[[int], int]
"""From a row of the piece at hand (from 0) to its line in the file (from 1)."""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What a format calls the three columns that every format has."""

    arrival: str
    prompt: str
    output: str


class Rows:
    """Arrival, prompt and output columns of a trace, appended chunk by chunk and checked.

    `arrival` is in the file's own unit; `finish` divides by `units_per_s`. Memory: the columns and
    1/16, as `array` grows in place.
    """

    def __init__(
        self, file: Path, names: FieldNames, *, sort: bool = False, noted: bool = True
    ) -> None:
        self.file, self.names, self.sort, self._noted = file, names, sort, noted
        self._arrival = array("d")
        self._prompt = array("i")
        self._output = array("i")
        self._last = -np.inf
        self._empty_outputs = 0

    def __len__(self) -> int:
        return len(self._arrival)

    def add(
        self,
        arrival: NDArray[np.float64],
        prompt: NDArray[np.int64],
        output: NDArray[np.int64],
        line_of: LineOf,
    ) -> None:
        """Append rows; `line_of(k)` is the line of row k. Raises: InputError for the first bad one.

        An output of 0 tokens is read as 1 (an engine always samples one) and counted in a note.
        """
        names = self.names
        self._refuse(~np.isfinite(arrival), "not a finite time", names.arrival, arrival, line_of)
        for column, name in ((prompt, names.prompt), (output, names.output)):
            self._refuse(column < 0, "a length cannot be negative", name, column, line_of)
            wanted = f"a length above {MAX_TOKENS:,} tokens is not believed"
            self._refuse(column > MAX_TOKENS, wanted, name, column, line_of)
        self._refuse(prompt == 0, "a request needs a prompt", names.prompt, prompt, line_of)
        if arrival.size and not self.sort:
            before = np.concatenate(([self._last], arrival[:-1]))
            self._refuse(
                arrival < before,
                "arrives before the request above it",
                names.arrival,
                arrival,
                line_of,
                "pass --sort to order the requests by arrival",
            )
            self._last = float(arrival[-1])
        self._empty_outputs += int((output == 0).sum())
        self._arrival.frombytes(arrival.tobytes())
        self._prompt.frombytes(prompt.astype(np.int32).tobytes())
        self._output.frombytes(np.maximum(output, 1).astype(np.int32).tobytes())

    def _refuse(
        self,
        bad: NDArray[np.bool_],
        what: str,
        field: str,
        values: NDArray[Any],
        line_of: LineOf,
        remedy: str = "correct or remove the request",
    ) -> None:
        if not bad.any():
            return
        row = int(bad.argmax())
        raise InputError(
            what,
            file=str(self.file),
            line=line_of(row),
            field=field,
            value=values[row].item(),
            remedy=remedy,
        )

    def finish(
        self,
        *,
        units_per_s: float,
        identities: Identities | None = None,
        session: NDArray[np.int32] | None = None,
        parent: NDArray[np.int32] | None = None,
        priority: NDArray[np.int32] | None = None,
        salt: NDArray[np.int32] | None = None,
        notes: Sequence[str] = (),
    ) -> Workload:
        """Return the workload, times counted from the first request. Raises: InputError if empty.

        With `sort`, rows are ordered by arrival (stable), which a note tells unless `noted` is
        False. O(N log N + M) then, else O(N).
        """
        rows = len(self)
        if rows == 0:
            raise InputError(
                "the file holds no requests", file=str(self.file), remedy="give a longer trace"
            )
        arrival = np.frombuffer(self._arrival, dtype=np.float64)
        said = list(notes)
        if self._empty_outputs:
            said.append(f"{self._empty_outputs:,} requests had no output tokens; each is read as 1")
        if identities is None:
            said.insert(0, LENGTH_ONLY_NOTE)
        workload = Workload(
            name=trace_name(self.file),
            source=str(self.file),
            arrival_s=(arrival - arrival.min()) / units_per_s,
            prompt_tokens=np.frombuffer(self._prompt, dtype=np.int32),
            output_tokens=np.frombuffer(self._output, dtype=np.int32),
            tokens_per_id=identities.tokens_per_id if identities else 1,
            ids=identities.ids() if identities else np.empty(0, dtype=np.int32),
            id_offsets=identities.offsets() if identities else np.zeros(rows + 1, dtype=np.int64),
            num_ids=identities.num_ids if identities else 0,
            prefix_known=identities is not None,
            outputs_identified=identities is not None and identities.with_outputs,
            session=no_links(rows) if session is None else session,
            parent=no_links(rows) if parent is None else parent,
            priority=np.zeros(rows, dtype=np.int32) if priority is None else priority,
            salt=np.zeros(rows, dtype=np.int32) if salt is None else salt,
            notes=tuple(said),
        )
        return sorted_by_arrival(workload, noted=self._noted) if self.sort else workload


class Identities:
    """Prefix-chained identities in the making: raw ids go in by chunk, small dense ids stay."""

    def __init__(self, tokens_per_id: int, *, with_outputs: bool = False) -> None:
        self.tokens_per_id, self.with_outputs = tokens_per_id, with_outputs
        self._chainer = Chainer()
        self._ids = array("i")
        self._offsets = array("q", [0])

    @property
    def num_ids(self) -> int:
        """Distinct identities so far."""
        return self._chainer.num_ids

    def add(
        self,
        raw_ids: NDArray[np.int64],
        counts: NDArray[np.int64],
        roots: NDArray[np.int64] | None = None,
    ) -> None:
        """Append `raw_ids` (M,), of which the next requests own `counts` (N,) each."""
        offsets = np.zeros(counts.size + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        salts = np.zeros(counts.size, dtype=np.int64) if roots is None else roots
        ids = self._chainer.extend(raw_ids, offsets, salts)
        if ids.dtype == np.int64 and self._ids.typecode == "i":
            self._ids = array("q", self._ids)
        self._ids.frombytes(ids.astype(self._ids.typecode, copy=False).tobytes())
        self._offsets.frombytes((offsets[1:] + self._offsets[-1]).tobytes())

    def ids(self) -> NDArray[Any]:
        """Return the flat identities, (M,) int32, or int64 beyond 2**31 blocks."""
        kind: np.dtype[Any] = np.dtype(self._ids.typecode)
        return np.frombuffer(self._ids, dtype=kind)

    def offsets(self) -> NDArray[np.int64]:
        """Return where each request's identities begin, (N+1,)."""
        return np.frombuffer(self._offsets, dtype=np.int64)


def no_links(rows: int) -> NDArray[np.int32]:
    """Return a column of -1: no session, or no parent, is known."""
    return np.full(rows, -1, dtype=np.int32)


def int_column(values: Sequence[int], file: Path, field: str, line_of: LineOf) -> NDArray[np.int64]:
    """Return `values` as int64. Raises: InputError for one that does not fit."""
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        row = next(k for k, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise InputError(
            "the number does not fit in 64 bits",
            file=str(file),
            line=line_of(row),
            field=field,
            value=values[row],
            remedy="correct the value",
        ) from None
