"""What `Contiguity` found: frozen, and the formulas from counts to figures.

Owns: the shapes; means and percentiles. Leaves to others: counting (`analyser`), views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.fragmentation.patterns import smallest_covering

__all__ = ["ContiguityResult", "FreeRuns", "TableEnds"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TableEnds:
    """The block tables of R requests when they ended; (R,) each, all groups of a request together.

    Attributes:
        finished: whether the request ran to its end; every other array is 0 where not, except
            those of tokens.
        blocks: that it held, hits included.
        runs: maximal ascending runs in the table's order: what a transfer in that order takes.
        any_order_runs: maximal runs of the same blocks as a set: what it takes in the order of ids.
        copies, any_order_copies: the same with runs longer than one copy cut.
        hit_tokens, queried_tokens: of the prompt, at the first admission.
    """

    finished: Flags
    blocks: I32
    runs: I32
    any_order_runs: I32
    copies: I32
    any_order_copies: I32
    hit_tokens: I64
    queried_tokens: I64

    @property
    def requests(self) -> int:
        """Requests that ran to their end."""
        return int(np.count_nonzero(self.finished))

    def mean(self, name: str) -> float:
        """Return the mean of an attribute over the requests that ended; NaN without any."""
        values = getattr(self, name)[self.finished]
        return float(values.mean()) if values.size else float("nan")

    def runs_quantile(self, share: float) -> int:
        """Return the fewest runs that as many of the requests do not exceed; 0 without any."""
        return smallest_covering(np.bincount(self.runs[self.finished]), share)

    def share_within(self, runs: I64) -> F64:
        """Return (K,) the share of requests that ended with at most `runs`, (K,), of them."""
        ordered = np.sort(self.runs[self.finished])
        if not ordered.size:
            return np.full(runs.shape, np.nan)
        return np.searchsorted(ordered, runs, side="right") / ordered.size


@dataclass(frozen=True, slots=True, eq=False)
class FreeRuns:
    """The free blocks, evictable ones included, at some looks: even in requests admitted.

    Attributes:
        looks: how many there were.
        by_length: runs of each length, summed over the looks.
        free_blocks, runs, largest: mean over the looks.
        efi: mean over the looks that saw a free block, of 1 - largest / free; NaN without any.
        ufsi: (ORDERS,) the same for the share that no aligned-size request of 2**j can use.
        blocks_per_page: of a page group.
        free_pages: mean number of whole pages (of consecutive blocks from block 0) without a used
            block; packed_pages: as many as the free blocks would make.
        empty_pages: mean number of pages without a used or a cached block.
    """

    looks: int
    by_length: I64
    free_blocks: float
    runs: float
    largest: float
    efi: float
    ufsi: F64
    blocks_per_page: int
    free_pages: float
    packed_pages: float
    empty_pages: float

    def quantile(self, share: float) -> int:
        """Return the smallest length that as many of the runs do not exceed; 0 without any."""
        return smallest_covering(self.by_length, share)

    def share_in_runs_of(self, lengths: I64) -> F64:
        """Return (K,) the share of the free blocks that lie in runs of at least `lengths`."""
        weights = self.by_length * np.arange(self.by_length.size)
        total = int(weights.sum())
        if not total:
            return np.full(lengths.shape, np.nan)
        below = np.concatenate(([0], np.cumsum(weights)))
        return 1.0 - below[np.minimum(lengths, weights.size)] / total


@dataclass(frozen=True, slots=True, eq=False)
class ContiguityResult:
    """How blocks lay: tables at their ends, free blocks along the way."""

    tables: TableEnds
    free: FreeRuns
