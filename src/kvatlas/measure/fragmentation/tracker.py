"""`FragmentationTracker`: the pool's layout over time, event by event.

Owns: feeding and reading out. Leaves to others: the loop over rows (`_tracker_kernel`), formulas of
figures (`result`), one moment in detail (`layout`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events import Chunk
from kvatlas.events.header import Header
from kvatlas.events.schema import EVENT, NONE
from kvatlas.measure.figures import Figures
from kvatlas.measure.fragmentation._states_kernel import CACHED, FRONT, USED
from kvatlas.measure.fragmentation._tracker_arrays_kernel import Tracker
from kvatlas.measure.fragmentation._tracker_kernel import track
from kvatlas.measure.fragmentation.result import (
    FragmentationResult,
    FragmentationSeries,
    RequestRuns,
    RunShape,
    external_index,
    put_fragmentation,
)
from kvatlas.measure.fragmentation.tracker_state import (
    closable,
    make_exact,
    make_tracker,
    thin_samples,
)

__all__ = ["FragmentationTracker"]

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
I32 = NDArray[np.int32]


class FragmentationTracker:
    """Follows free, evictable and empty blocks and the runs they form through a resolved stream.

    Counts, the number of runs, runs per request and their integrals over time are exact after every
    event, O(1) per block. In mode `sampled` the lengths of runs (largest, histogram, EFI, UFSI) are
    measured at steps, as often as the events themselves pay for; in mode `exact` they too are
    exact after every event, O(log64 N) per block. An eviction and the allocation it was for are one
    change.

    Memory: 1 byte per block (exact: 9 more), 20 per request, 4 per cell of the block
    tables in use, and `most_samples` samples of 96.

    Raises:
        InputError: in `feed`, when tables do not fit the header.
    """

    def __init__(
        self,
        header: Header,
        *,
        mode: Literal["sampled", "exact"] = "sampled",
        most_samples: int = 1024,
    ) -> None:
        if mode not in ("sampled", "exact"):
            raise InputError("must be sampled or exact", field="mode", value=mode)
        if most_samples < 2:
            raise InputError("must be at least 2", field="most_samples", value=most_samples)
        self.header, self.mode = header, mode
        self._exact = make_exact(header) if mode == "exact" else None
        self._state = make_tracker(header, self._exact, most_samples)
        self._moved_to: I32 | None = None

    def feed(self, chunk: Chunk) -> None:
        """Let the events of a resolved `chunk` happen; O(rows + ids)."""
        rows = np.require(chunk.rows, requirements=["C", "W"]).view(np.recarray)
        ids = np.require(chunk.ids, np.int32, ["C", "W"])
        clock, samples, at = self._state.clock, self._state.samples, 0
        while True:
            at = track(self._state, self._exact, self._moved_to, rows, ids, at, 0)
            if clock.samples == samples.size:
                thin_samples(self._state)
            elif at < rows.size:
                # A rare event: from now on the kernel that knows them all.
                self._moved_to = np.zeros(self.header.num_blocks, np.int32)
            if at == rows.size:
                break
        if self._state.tables.totals.overflow != 0:
            raise InputError(
                "block tables do not fit what the header says of them",
                field="max_num_seqs",
                value=self.header.max_num_seqs,
                remedy="the recording is damaged",
            )

    def result(self) -> FragmentationResult:
        """Return what is known so far, up to the end of the last step; O(N / 64 + runs + R)."""
        state = closable(self._state, self._exact)
        nothing = np.empty(0, EVENT).view(np.recarray)
        track(state, self._exact, self._moved_to, nothing, np.empty(0, np.int32), 0, 1)
        counts, sums = state.pool.counts, state.sums
        usable, used, empty = int(counts.usable), int(counts.used), int(counts.empty)
        used_mean = _over(sums.used_ms, sums.span_ms)
        empty_mean = _over(sums.empty_ms, sums.span_ms)
        requests = state.tables.requests[: self.header.num_requests]
        names = ("session", "runs", "blocks", "peak_runs")
        return FragmentationResult(
            exact=self._exact is not None,
            looks=int(state.clock.looks),
            span_s=float(sums.span_ms) / 1e3,
            usable_blocks=usable,
            used=used,
            evictable=usable - used - empty,
            empty=empty,
            used_mean=used_mean,
            evictable_mean=max(0.0, usable - used_mean - empty_mean),
            empty_mean=empty_mean,
            free=_shape(state, 0, usable - used, int(counts.free_runs)),
            empty_only=_shape(state, 1, empty, int(counts.empty_runs)),
            series=_series(state),
            requests=RequestRuns(*(requests[name].copy() for name in names)),
            runs_per_request_mean=_over(sums.table_runs_ms, sums.holders_ms),
            blocks_per_run_mean=_over(sums.table_blocks_ms, sums.table_runs_ms),
            copied_blocks=int(counts.copied),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the figures `fragmentation.*`; see `put_fragmentation`."""
        put_fragmentation(sheet, self.result())

    def states(self) -> tuple[Flags, Flags]:
        """Return (used, cached) of every block now, (N,) each; the null block is used. O(N)."""
        states = self._state.pool.states[FRONT:][: self.header.num_blocks]
        return (states & USED) != 0, (states & CACHED) != 0

    def runs_of(self, request: int) -> int:
        """Return the ascending runs in the block tables of `request` now; O(1)."""
        tables = self._state.tables
        slot = int(tables.requests["slot"][request])
        if slot == NONE:
            return 0
        return int(tables.holders["blocks"][slot] - tables.holders["links"][slot])


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _shape(state: Tracker, which: int, blocks: int, runs: int) -> RunShape:
    sums = state.shapes[which]
    lengths = state.empty if which else state.free
    largest, members_ms = int(lengths.runs.largest), float(sums.members_ms)
    runs_ms = state.sums.empty_runs_ms if which else state.sums.free_runs_ms
    return RunShape(
        blocks=blocks,
        runs=runs,
        largest=largest,
        efi=external_index(largest, blocks),
        runs_mean=_over(runs_ms, state.sums.span_ms),
        largest_mean=_over(sums.largest_ms, members_ms),
        efi_mean=_over(sums.efi_ms, members_ms),
        ufsi_mean=_each_over(state.ufsi_ms[which], members_ms),
        by_order_mean=_each_over(state.order_ms[which], state.sums.span_ms),
    )


def _series(state: Tracker) -> FragmentationSeries:
    samples = state.samples[: int(state.clock.samples)]
    time_ms = np.concatenate(([state.clock.start_ms], samples["time_ms"]))
    # Of samples at one moment the last one counts: no time passed between them.
    last = np.append(time_ms[1:] > time_ms[:-1], True)[1:] if samples.size else np.zeros(0, bool)
    kept = samples[last & (samples["time_ms"] > state.clock.start_ms)]
    span_ms = np.diff(kept["time_ms"], prepend=state.clock.start_ms)
    used = np.diff(kept["used_ms"], prepend=0.0) / span_ms
    empty = np.diff(kept["empty_ms"], prepend=0.0) / span_ms
    usable = int(state.pool.counts.usable)
    free_now = usable - kept["used"]
    end_s = kept["time_ms"] / 1e3
    return FragmentationSeries(
        start_s=np.concatenate(([state.clock.start_ms / 1e3], end_s))[: end_s.size],
        end_s=end_s,
        used=used,
        # Means of whole numbers: rounding may leave a hair below or above 0.
        evictable=np.maximum(0.0, np.round(usable - used - empty, 6)),
        empty=empty,
        free_runs=kept["free_runs"].astype(np.float64),
        empty_runs=kept["empty_runs"].astype(np.float64),
        largest_free=kept["largest_free"].astype(np.float64),
        largest_empty=kept["largest_empty"].astype(np.float64),
        efi=1.0 - _each_over(kept["largest_free"], free_now),
        efi_empty=1.0 - _each_over(kept["largest_empty"], kept["empty"]),
        runs_per_request=_each_over(kept["table_runs"], kept["holders"]),
        blocks_per_run=_each_over(kept["table_blocks"], kept["table_runs"]),
    )


def _each_over(parts: F64, wholes: F64 | float) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(wholes) > 0, parts / np.asarray(wholes), np.nan)
