"""`BlockLayoutAnalyzer`: how the blocks lie at one moment.

Owns: runs, indices and runs per request of a snapshot. Leaves to others: the snapshot itself
(`kvatlas.events.snapshot`), patterns (`patterns`), the course over time (`tracker`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.measure.fragmentation._layout_kernel import TABLE_RUNS, measure_tables
from kvatlas.measure.fragmentation.patterns import Pattern, find_pattern, smallest_covering
from kvatlas.measure.fragmentation.result import external_index
from kvatlas.records import records
from kvatlas.runs._words_kernel import ORDERS

__all__ = ["BlockLayoutAnalyzer", "Layout", "RunSet", "Snapshot", "TableRuns", "run_set"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Snapshot(Protocol):
    """The pool at one moment: N blocks and T block tables.

    `kvatlas.events.snapshot.FragmentationSnapshot` is one.
    """

    @property
    def has_null(self) -> bool: ...
    @property
    def ref_count(self) -> I32: ...
    @property
    def key(self) -> I64: ...
    @property
    def table_request(self) -> I32: ...
    @property
    def table_group(self) -> I32: ...
    @property
    def table_offsets(self) -> I64: ...
    @property
    def table_blocks(self) -> I32: ...


@dataclass(frozen=True, slots=True)
class RunSet:
    """The maximal runs of consecutive ids in a set of blocks.

    Attributes:
        starts, lengths: (K,) the runs in order of their ids.
        blocks, largest: in all, and of the longest run.
        mean: length, NaN without runs.
        p50, p99: the smallest length that as many of the runs do not exceed; 0 without runs.
        efi: 1 - largest / blocks; NaN without blocks.
        ufsi: (ORDERS,) the share of the blocks that no request for 2**j consecutive ones can use;
            NaN without blocks.
        by_order: (ORDERS,) runs of 2**j to 2**(j + 1) - 1 blocks.
    """

    starts: I64
    lengths: I64
    blocks: int
    largest: int
    mean: float
    p50: int
    p99: int
    efi: float
    ufsi: F64
    by_order: I64

    @property
    def count(self) -> int:
        """How many runs there are."""
        return int(self.lengths.size)


@dataclass(frozen=True, slots=True)
class TableRuns:
    """T block tables: (T,) each.

    Attributes:
        request, group: whose.
        blocks: how many it holds.
        runs: maximal ascending runs in the table's order: descriptors of a copy in that order.
        fewest_runs: descriptors if a copy may take the blocks in any order.
        free_edges: neighbours (id - 1 or id + 1) of its blocks that are free: each is an end of a
            free run that this table bounds. A shared block counts for each of its tables.
    """

    request: I32
    group: I32
    blocks: I32
    runs: I32
    fewest_runs: I32
    free_edges: I32


@dataclass(frozen=True, slots=True)
class Layout:
    """How N blocks lie.

    Attributes:
        usable_blocks: blocks less the null block: used + evictable + empty.
        free: the runs of free blocks, evictable ones included; empty_only: without them.
        tables: runs per block table.
        pattern: what the free blocks look like.
    """

    usable_blocks: int
    used: int
    evictable: int
    empty: int
    free: RunSet
    empty_only: RunSet
    tables: TableRuns
    pattern: Pattern
    used_flags: Flags

    def pinned_pages(self, blocks_per_page: int) -> tuple[int, int]:
        """Return (pages that hold a used block, pages that would do); O(N).

        Pages are of consecutive blocks from block 0, as in a pool backed by huge pages or by VMM.
        """
        if blocks_per_page < 1:
            raise InputError("must be at least 1", field="blocks_per_page", value=blocks_per_page)
        used = np.flatnonzero(self.used_flags) // blocks_per_page
        pinned = int(np.count_nonzero(np.diff(used, prepend=-1)))
        return pinned, -(-self.used // blocks_per_page)


class BlockLayoutAnalyzer:
    """Analyses a snapshot: O(N + ids), some milliseconds for a million blocks."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def layout(self) -> Layout:
        """Return how the blocks lie. Raises: InputError when a table names a block that is not."""
        snapshot = self.snapshot
        free = snapshot.ref_count <= 0
        if snapshot.has_null and free.size:
            free[0] = False
        empty = free & (snapshot.key < 0)
        usable = free.size - int(snapshot.has_null)
        free_runs, empty_runs = run_set(free), run_set(empty)
        return Layout(
            usable_blocks=usable,
            used=usable - free_runs.blocks,
            evictable=free_runs.blocks - empty_runs.blocks,
            empty=empty_runs.blocks,
            free=free_runs,
            empty_only=empty_runs,
            tables=self._tables(free),
            pattern=find_pattern(
                free_runs.starts,
                free_runs.lengths,
                free_runs.p50,
                int(snapshot.has_null),
                free.size,
            ),
            used_flags=self._used(free),
        )

    def _used(self, free: Flags) -> Flags:
        used = ~free
        if self.snapshot.has_null and used.size:
            used[0] = False
        return used

    def _tables(self, free: Flags) -> TableRuns:
        snapshot, size = self.snapshot, free.size
        blocks = np.require(snapshot.table_blocks, np.int32, ["C", "W"])
        if blocks.size and blocks.max() >= size:
            raise InputError("no such block", field="table_blocks", value=int(blocks.max()))
        tables = records(snapshot.table_request.size, TABLE_RUNS)
        edges = np.zeros(size + 2, np.uint8)
        edges[1:-1] = free
        measure_tables(
            tables,
            np.require(snapshot.table_offsets, np.int64, ["C", "W"]),
            blocks,
            edges,
            np.zeros(size + 1, np.int32),
            int(snapshot.has_null),
        )
        return TableRuns(
            request=snapshot.table_request,
            group=snapshot.table_group,
            blocks=tables["blocks"],
            runs=tables["runs"],
            fewest_runs=tables["fewest_runs"],
            free_edges=tables["free_edges"],
        )


def run_set(members: Flags) -> RunSet:
    """Return the runs of the blocks where `members`, (N,), is true; N at least 1; O(N)."""
    ends = np.empty(members.size + 1, bool)
    ends[1:-1] = members[1:] != members[:-1]
    ends[0], ends[-1] = members[0], members[-1]
    edges = np.flatnonzero(ends)
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    blocks, largest = int(lengths.sum()), int(lengths.max(initial=0))
    times = np.bincount(lengths)
    p50, p99 = (smallest_covering(times, share) for share in (0.5, 0.99))
    known = np.flatnonzero(times)
    bits = (known[:, None] >> np.arange(ORDERS)) & 1
    # Pieces of 2**j blocks serve what the bits from j on of a length are worth.
    worth = (times[known][:, None] * (bits << np.arange(ORDERS))).sum(axis=0)
    served = np.cumsum(worth[::-1])[::-1]
    orders = np.frexp(known.astype(np.float64))[1] - 1
    return RunSet(
        starts=starts,
        lengths=lengths,
        blocks=blocks,
        largest=largest,
        mean=blocks / lengths.size if lengths.size else float("nan"),
        p50=p50,
        p99=p99,
        efi=external_index(largest, blocks),
        ufsi=1.0 - served / blocks if blocks else np.full(ORDERS, np.nan),
        by_order=np.bincount(orders, weights=times[known], minlength=ORDERS).astype(np.int64),
    )
