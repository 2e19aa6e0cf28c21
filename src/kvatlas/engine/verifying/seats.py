"""Rows of the engine for the requests that hold blocks, and one for who asks for some.

Owns: who has which row, and writing into it what a call looks at. Leaves to others: the calls
(`twin`), the numbers (`book`).
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import NONE, RUNNING, WAITING, Engine
from kvatlas.engine.verifying.book import Tracked
from kvatlas.engine.verifying.verdict import Difference, DifferenceFound

__all__ = ["Seats"]

_BEYOND_ALL_KEYS = 1 << 60


class Seats:
    """A row for each of `max_num_seqs` requests and one more.

    A request that was looked up and got nothing leaves its row to the next one.
    """

    def __init__(self, engine: Engine, keys_per_row: int, hash_block: int) -> None:
        self._ids = engine.ids
        self._keys_per_row, self._hash_block = keys_per_row, hash_block
        # Views of the columns: reading a field of a record takes NumPy a microsecond.
        requests = engine.requests
        self._columns = {name: requests[name] for name in requests.dtype.names or ()}
        self._slots = self._columns["slot"]
        # A block whose hash is not known is nobody else's.
        self._columns["unique_start"][:] = _BEYOND_ALL_KEYS
        self._row_of: dict[int, int] = {}
        self._written = [0] * len(requests)
        self._free = list(range(len(requests) - 1, -1, -1))
        self._visitor: int | None = None

    def slot(self, request: Tracked) -> int:
        """Return the slot of a request's block tables, NONE without."""
        row = self._row_of.get(request.row)
        return NONE if row is None else int(self._slots[row])

    def seat(self, request: Tracked) -> int:
        """Return the request's row, with all that a call looks at up to date. O(new hashes)."""
        row = self._row_of.get(request.row)
        columns = self._columns
        if row is None:
            row = self._take(request)
        known, written = len(request.keys), self._written[row]
        if known != written:
            if known > self._keys_per_row:
                raise DifferenceFound(
                    Difference("hashes", f"{known:,}", f"at most {self._keys_per_row:,}")
                )
            start = row * self._keys_per_row
            self._ids[start + written : start + known] = request.keys[written:]
            self._written[row] = known
            columns["covered"][row] = known * self._hash_block
        columns["num_tokens"][row] = request.num_tokens
        columns["computed"][row] = request.computed
        columns["in_flight"][row] = request.in_flight
        columns["boundary"][row] = request.boundary
        return row

    def keep(self, row: int) -> None:
        """Let the request in `row` stay: it holds blocks now."""
        self._columns["status"][row] = RUNNING
        self._visitor = None

    def leave(self, request: Tracked) -> None:
        """Take the row of a request that has given its blocks back."""
        row = self._row_of.pop(request.row)
        self._columns["status"][row] = WAITING
        self._slots[row] = NONE
        self._free.append(row)

    def row(self, request: Tracked) -> int:
        """Return the row of a request that has one."""
        return self._row_of[request.row]

    def _take(self, request: Tracked) -> int:
        row = self._free.pop() if self._visitor is None else self._row_of.pop(self._visitor)
        self._visitor = request.row
        self._row_of[request.row] = row
        self._written[row] = 0
        columns = self._columns
        columns["covered"][row] = 0
        columns["slot"][row], columns["status"][row] = NONE, WAITING
        columns["id_start"][row] = row * self._keys_per_row
        columns["prompt"][row] = request.prompt
        return row
