"""`Contiguity`: tables as requests end, free blocks at looks along the way, from a run's events.

Owns: when it looks, and what a look adds. Leaves to others: reading tables off the rows
(`_ends_kernel`), the pool's state (`kvatlas.events.state`), figures (`result`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events import Chunk, Header
from kvatlas.events.schema import ADMITTED, NONE, STEP
from kvatlas.events.state import PoolState
from kvatlas.measure.contiguity._ends_kernel import END, read_ends
from kvatlas.measure.contiguity.result import ContiguityResult, FreeRuns, TableEnds
from kvatlas.measure.feeding import writable
from kvatlas.measure.fragmentation.layout import run_set
from kvatlas.records import records
from kvatlas.runs._words_kernel import ORDERS

__all__ = ["Contiguity"]

LOOKS = 64
"""Looks at the free blocks in a run at most, even in requests admitted."""


class Contiguity:
    """Follows a stream of resolved chunks; O(rows + ids), and `looks` times O(N) for N blocks.

    A table is counted when its request finishes; one that is preempted is not: its blocks come
    back in another order. Memory: 13 bytes per block, 40 per request.

    Args:
        header: the recording's.
        blocks_per_page: consecutive blocks that are mapped and released together.
        blocks_per_copy: that one descriptor may move; None for any number.
        looks: how often the free blocks are looked at, at the end of a step's decisions.

    Raises: InputError for a number below 1.
    """

    def __init__(
        self,
        header: Header,
        *,
        blocks_per_page: int = 32,
        blocks_per_copy: int | None = None,
        looks: int = LOOKS,
    ) -> None:
        for name, value in (
            ("blocks_per_page", blocks_per_page),
            ("blocks_per_copy", blocks_per_copy),
            ("looks", looks),
        ):
            if value is not None and value < 1:
                raise InputError("must be at least 1", field=name, value=value)
        self.header = header
        self._ends = records(max(1, header.num_requests), END)
        self._held = np.zeros(header.num_blocks + 2, np.uint8)
        self._most_blocks = blocks_per_copy or 0
        self._pool = PoolState(header)
        self._admitted = 0
        self._every = max(1, -(-header.num_requests // looks))
        self._look_at = self._every
        self._page = blocks_per_page
        self._looks: list[tuple[float, ...]] = []
        self._ufsi: list[NDArray[np.float64]] = []
        self._by_length = np.zeros(header.num_blocks + 1, np.int64)

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk."""
        rows, ids = writable(chunk)
        read_ends(self._ends, self._held, rows, ids, self._most_blocks)
        # Whoever is admitted in a step holds blocks at the row that ends the step's decisions.
        events = np.asarray(chunk.rows["event"])
        admitted = self._admitted + np.cumsum(events == ADMITTED)
        steps = np.flatnonzero(events == STEP)
        start = 0
        while steps.size and admitted.size and admitted[-1] >= self._look_at:
            place = int(np.searchsorted(admitted[steps], self._look_at))
            if place == steps.size:
                break
            stop = int(steps[place]) + 1
            self._pool.apply(Chunk(chunk.rows[start:stop], chunk.ids))
            self._look()
            start = stop
            self._look_at = int(admitted[steps[place]]) + self._every
        self._pool.apply(Chunk(chunk.rows[start:], chunk.ids))
        if admitted.size:
            self._admitted = int(admitted[-1])

    def _look(self) -> None:
        blocks, page = self._pool.blocks, self._page
        free = blocks.ref_count == 0
        if self.header.has_null:
            free[0] = False
        runs = run_set(free)
        self._by_length[: runs.largest + 1] += np.bincount(runs.lengths, minlength=runs.largest + 1)
        empty = free & (blocks.key == NONE)
        whole = free.size // page * page
        pages = [
            int(np.count_nonzero(flags[:whole].reshape(-1, page).all(axis=1)))
            for flags in (free, empty)
        ]
        self._looks.append(
            (runs.blocks, runs.count, runs.largest, runs.efi, pages[0], runs.blocks // page,
             pages[1])
        )  # fmt: skip
        self._ufsi.append(runs.ufsi)

    def result(self) -> ContiguityResult:
        """Return what was found so far; the state stays. O(requests + looks)."""
        ends = self._ends[: self.header.num_requests]
        looks = np.array(self._looks, np.float64).reshape(-1, 7)
        free, runs, largest, efi, free_pages, packed, empty_pages = (
            _mean(column) for column in looks.T
        )
        used = np.flatnonzero(self._by_length)
        return ContiguityResult(
            tables=TableEnds(
                finished=ends["finished"] == 1,
                **{name: ends[name].copy() for name in END.names or () if name != "finished"},
            ),
            free=FreeRuns(
                looks=len(self._looks),
                by_length=self._by_length[: int(used[-1]) + 1 if used.size else 1].copy(),
                free_blocks=free,
                runs=runs,
                largest=largest,
                efi=efi,
                ufsi=np.array(
                    [_mean(column) for column in np.array(self._ufsi).reshape(-1, ORDERS).T]
                ),
                blocks_per_page=self._page,
                free_pages=free_pages,
                packed_pages=packed,
                empty_pages=empty_pages,
            ),
        )


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is known, NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
