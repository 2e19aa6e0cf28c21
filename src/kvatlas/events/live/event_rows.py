"""Rows of the event schema, collected in Python and handed out as chunks.

Owns: a row's fields and defaults, runs of keys and of owners. Leaves to others: which events there
are (`decode`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kvatlas.events.chunk import Chunk
from kvatlas.events.schema import ALLOCATED, CACHED, EVENT, EVICTED, FREED, NONE, TOUCHED

__all__ = ["EventRows"]

_ABSENT = {"key_stride": 0, "span_ms": 0.0}
_FIELDS = EVENT.names or ()
_REQUESTS = ("request", "other")
_PLACE = {name: at for at, name in enumerate(_FIELDS)}
_BLANK: tuple[float, ...] = tuple(_ABSENT.get(name, NONE) for name in _FIELDS)


class EventRows:
    """Rows and the ids that they list, in order; `take` hands them out.

    Args:
        first_row: the request that becomes number 0.

    Attributes:
        step, time_ms: of the rows to come.
    """

    def __init__(self, first_row: int = 0) -> None:
        self._first_row = first_row
        self.step = 0
        self.time_ms = 0.0
        self._rows: list[tuple[float, ...]] = []
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def take(self) -> Chunk:
        """Return what was collected, and begin anew. O(rows + ids)."""
        chunk = Chunk(np.array(self._rows, EVENT), np.array(self._ids, np.int32))
        self._rows, self._ids = [], []
        return chunk

    def put(self, event: int, cause: int = NONE, **fields: float) -> None:
        """Add a row."""
        row = list(_BLANK)
        row[_PLACE["event"]] = event
        row[_PLACE["cause"]] = cause
        row[_PLACE["step"]] = self.step
        row[_PLACE["time_ms"]] = self.time_ms
        for name, value in fields.items():
            if name in _REQUESTS and value != NONE:
                value -= self._first_row
            row[_PLACE[name]] = value
        self._rows.append(tuple(row))

    def listed(self, event: int, cause: int, ids: Sequence[int], **fields: float) -> None:
        """Add a row that lists its blocks."""
        self.put(event, cause, count=len(ids), blocks_at=len(self._ids), **fields)
        self._ids.extend(ids)

    def allocated(
        self, cause: int, row: int, group: int, position: int, ids: Sequence[int], computed: int
    ) -> None:
        """Add that free blocks entered a table."""
        self.listed(
            ALLOCATED, cause, ids, request=row, group=group, position=position, ref_count=1,
            computed_tokens=computed,
        )  # fmt: skip

    def touched(
        self, row: int, group: int, position: int, ids: Sequence[int], owners: Sequence[int],
        cause: int = NONE,
    ) -> None:  # fmt: skip
        """Add that hits entered a table: a row for each stretch with as many owners; 0 is null."""
        for start, stop in _equal_runs(owners):
            if ids[start] != 0:
                self.listed(
                    TOUCHED, cause, ids[start:stop], request=row, group=group,
                    position=position + start, ref_count=owners[start],
                )  # fmt: skip

    def evicted(
        self, cause: int, row: int, position: int, lost: Sequence[tuple[int, int, int]]
    ) -> None:
        """Add (index, key, group) of blocks that the next `allocated` row takes."""
        for start, stop, stride in _key_runs([(index, key) for index, key, _ in lost]):
            index, key, group = lost[start]
            if any(other != group for _, _, other in lost[start:stop]):
                for index, key, group in lost[start:stop]:
                    self.put(
                        EVICTED, cause, request=row, group=group, position=position + index,
                        count=1, key=key,
                    )  # fmt: skip
                continue
            self.put(
                EVICTED, cause, request=row, group=group, position=position + index,
                count=stop - start, key=key, key_stride=stride,
            )  # fmt: skip

    def cached(
        self, row: int, group: int, cached: Sequence[tuple[int, int, int]], cause: int = NONE
    ) -> None:
        """Add (position, block, key) of blocks that can be hit from now on."""
        for start, stop, stride in _key_runs([(position, key) for position, _, key in cached]):
            position, _, key = cached[start]
            ids = [block for _, block, _ in cached[start:stop]]
            fields = {"key": key, "key_stride": stride, "group": group, "position": position}
            if row == NONE:
                self.listed(CACHED, cause, ids, request=NONE, **fields)
            else:
                self.put(CACHED, cause, request=row, count=len(ids), **fields)

    def freed(
        self, cause: int, row: int, group: int, freed: Sequence[tuple[int, int]],
        owners: Sequence[int],
    ) -> None:  # fmt: skip
        """Add (position, block) of blocks that lost an owner; `owners` are left of each."""
        steps = [
            (left, position + at if position != NONE else -2)
            for at, ((position, _), left) in enumerate(zip(freed, owners, strict=True))
        ]
        for start, stop in _equal_runs(steps):
            position = freed[start][0]
            ids = [block for _, block in freed[start:stop]]
            known = row != NONE and position != NONE
            self.listed(
                FREED, cause, ids, request=row if known else NONE, group=group,
                position=position, ref_count=owners[start],
            )  # fmt: skip


def _equal_runs(values: Sequence[object]) -> Iterable[tuple[int, int]]:
    """Yield (start, stop) of the longest stretches of equal values."""
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            yield start, at
            start = at


def _key_runs(pairs: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int, int]]:
    """Yield (start, stop, stride) of stretches of consecutive positions whose keys are a run."""
    start = 0
    while start < len(pairs):
        stop, stride = start + 1, 0
        if stop < len(pairs):
            gap = pairs[stop][1] - pairs[start][1]
            if pairs[stop][0] == pairs[start][0] + 1 and -1 <= gap <= 1:
                stride = gap
                while (
                    stop < len(pairs)
                    and pairs[stop][0] == pairs[stop - 1][0] + 1
                    and pairs[stop][1] - pairs[stop - 1][1] == stride
                ):
                    stop += 1
        yield start, stop, stride
        start = stop
