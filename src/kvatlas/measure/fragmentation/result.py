"""What the tracker found: means over time, the course, and the runs in each request's table.

Owns: the shapes and the formulas from integrals to figures. Leaves to others: the integrals
(`tracker`), wording (`reading`), views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.figures import Figures

__all__ = [
    "UFSI_ORDERS",
    "FragmentationResult",
    "FragmentationSeries",
    "RequestRuns",
    "RunShape",
    "external_index",
    "put_fragmentation",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

UFSI_ORDERS = (3, 6, 9)
"""The orders that go on the sheet: pieces of 8, 64 and 512 blocks. Results hold all of them."""

_NO_CLOCK = "no time passed: there is nothing to weigh the states by"


def external_index(largest: float, members: float) -> float:
    """Return EFI = 1 - largest run / blocks; NaN without blocks."""
    return 1.0 - largest / members if members > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class RunShape:
    """The runs of a set of blocks (free, or empty), now and weighted by time.

    Attributes:
        blocks, runs, largest: now; runs and blocks are exact in either mode, and so is `largest`.
        efi: now; NaN without blocks.
        runs_mean: mean number of runs over the span; exact in either mode.
        largest_mean, efi_mean: over the time during which the set was not empty; NaN if it never
            was. Exact in exact mode, else what samples saw, each holding until the next.
        ufsi_mean: (ORDERS,) the same for the unusable free space index of 2**j blocks.
        by_order_mean: (ORDERS,) mean number of runs of 2**j to 2**(j + 1) - 1 blocks.
    """

    blocks: int
    runs: int
    largest: int
    efi: float
    runs_mean: float
    largest_mean: float
    efi_mean: float
    ufsi_mean: F64
    by_order_mean: F64


@dataclass(frozen=True, slots=True)
class FragmentationSeries:
    """K intervals one after the other: (K,) each; NaN where there is nothing to divide by.

    Attributes:
        start_s, end_s: the bounds; the first start is the beginning of the recording.
        used, evictable, empty: blocks, mean over the interval, exact.
        free_runs, empty_runs, largest_free, largest_empty, efi, efi_empty: at the interval's end.
        runs_per_request, blocks_per_run: over the requests that hold blocks at the interval's end.
    """

    start_s: F64
    end_s: F64
    used: F64
    evictable: F64
    empty: F64
    free_runs: F64
    empty_runs: F64
    largest_free: F64
    largest_empty: F64
    efi: F64
    efi_empty: F64
    runs_per_request: F64
    blocks_per_run: F64


@dataclass(frozen=True, slots=True)
class RequestRuns:
    """The ascending runs of R requests: (R,) each.

    Attributes:
        session: -1 where the request belongs to none.
        runs, blocks: of the last table that it gave back; 0 when it never held blocks, or still
            holds its first ones.
        peak_runs: the most that it had at any event.
    """

    session: I32
    runs: I32
    blocks: I32
    peak_runs: I32

    def histogram(self) -> tuple[I64, I64]:
        """Return (edges, counts): requests by runs in powers of two, [edge, next edge). O(R)."""
        held = self.runs[self.runs > 0].astype(np.int64)
        orders = np.frexp(held.astype(np.float64))[1] - 1
        counts = np.bincount(orders, minlength=1).astype(np.int64)
        return np.int64(1) << np.arange(counts.size + 1), counts


@dataclass(frozen=True, slots=True)
class FragmentationResult:
    """What happened to the pool's layout.

    Attributes:
        exact: whether largest runs, indices and histograms are exact at every event.
        looks: how often they were measured otherwise.
        span_s: time from the recording's beginning to the end of its last step.
        usable_blocks: blocks less the null block.
        used, evictable, empty: blocks now.
        used_mean, evictable_mean, empty_mean: over the span, exact; NaN without a span.
        free: the runs of free blocks, evictable ones included; empty_only: without them.
        series: the course.
        requests: runs per request.
        runs_per_request_mean: runs in the tables of all requests that hold blocks over how many
            they are, both integrated over time; NaN when there never were any.
        blocks_per_run_mean: the same for blocks over runs.
        copied_blocks: blocks that the recording moved or swapped.
    """

    exact: bool
    looks: int
    span_s: float
    usable_blocks: int
    used: int
    evictable: int
    empty: int
    used_mean: float
    evictable_mean: float
    empty_mean: float
    free: RunShape
    empty_only: RunShape
    series: FragmentationSeries
    requests: RequestRuns
    runs_per_request_mean: float
    blocks_per_run_mean: float
    copied_blocks: int


def put_fragmentation(sheet: Figures, result: FragmentationResult) -> None:
    """Put the figures: means over time, and over requests where the name says so.

    `runs_per_request_mean` and `blocks_per_run_mean` are over the last tables of the requests that
    gave one back, each once, whatever they lived.
    """
    free, empty = result.free, result.empty_only
    never = "there never was a free block"
    if result.span_s > 0:
        sheet.put("fragmentation.free_runs", free.runs_mean)
        _put(sheet, "fragmentation.largest_free_run", free.largest_mean, never)
        _put(sheet, "fragmentation.efi", free.efi_mean, never)
        _put(sheet, "fragmentation.efi_empty", empty.efi_mean, "there never was an empty block")
        for order in UFSI_ORDERS:
            name = f"fragmentation.ufsi_order_{order}"
            if 1 << order > result.usable_blocks:
                sheet.lack(f"the pool has less than {1 << order} blocks", name)
            else:
                _put(sheet, name, float(free.ufsi_mean[order]), never)
    else:
        names = ("free_runs", "largest_free_run", "efi", "efi_empty")
        sheet.lack(_NO_CLOCK, *(f"fragmentation.{name}" for name in names))
        sheet.lack(_NO_CLOCK, *(f"fragmentation.ufsi_order_{order}" for order in UFSI_ORDERS))
    runs = int(result.requests.runs.sum(dtype=np.int64))
    blocks = int(result.requests.blocks.sum(dtype=np.int64))
    gave_back = int((result.requests.runs > 0).sum())
    nobody = "no request gave blocks back"
    sheet.ratio("fragmentation.runs_per_request_mean", runs, gave_back, nobody)
    sheet.ratio("fragmentation.blocks_per_run_mean", blocks, runs, nobody)


def _put(sheet: Figures, name: str, value: float, otherwise: str) -> None:
    if np.isnan(value):
        sheet.lack(otherwise, name)
    else:
        sheet.put(name, value)
