"""From what was measured of a run to the tables, histograms and series that its views show.

Owns: which there are, their titles, columns and remarks. Leaves to others: measuring
(`kvatlas.measure`), each view.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.distribution import Distribution
from kvatlas.measure.run import RunMeasurement
from kvatlas.report.run_document import Cell, Histogram, Table, TimeSeries

__all__ = ["run_histograms", "run_series", "run_tables"]

F64 = NDArray[np.float64]

_MOST_ROWS = 10
_BINS = 48


def run_series(measured: RunMeasurement) -> TimeSeries:
    """Return the course of the run, on the intervals at which its free runs were looked at."""
    layout = measured.fragmentation.result().series
    if layout.start_s.size == 0:
        return TimeSeries(np.empty(0), np.empty(0), {})
    bounds = np.append(layout.start_s[0], layout.end_s)
    columns = measured.course.result().columns(bounds)
    columns |= {
        name: np.asarray(getattr(layout, name), np.float64)
        for name in ("used", "evictable", "empty", "efi", "efi_empty", "free_runs",
                     "largest_free", "runs_per_request")
    }  # fmt: skip
    return TimeSeries(layout.start_s, layout.end_s, columns)


def run_histograms(measured: RunMeasurement) -> dict[str, Histogram]:
    """Return the histograms by name; empty ones are left out."""
    life = measured.life.result()
    censored = f"{life.censored:,} lives had not ended" if life.censored else ""
    found = {
        "lifetime": _spread("Lifetime: allocated to evicted", life.lifetime_s, censored),
        "idle": _spread("Idle: last used to evicted", life.idle_s, censored),
        "reuse_gap": _spread("Reuse gap: between two uses", life.reuse_gap_s, ""),
    }
    layout = measured.fragmentation.result()
    blocks = layout.free.by_order_mean
    if blocks.size and blocks.sum() > 0:
        found["free_runs"] = Histogram(
            "Runs of free blocks by length",
            "blocks",
            np.exp2(np.arange(blocks.size + 1, dtype=np.float64)),
            blocks,
            "mean over time; bins double. Costs nothing in a pool of equal blocks.",
        )
    edges, counts = layout.requests.histogram()
    if counts.sum():
        found["runs_per_request"] = Histogram(
            "Requests by runs in their block table",
            "runs",
            edges.astype(np.float64),
            counts.astype(np.float64),
            "a transfer takes one descriptor per run",
        )
    return {name: histogram for name, histogram in found.items() if histogram.counts.size}


def _spread(title: str, values: Distribution, note: str) -> Histogram:
    """Return a distribution with at most some 48 bins: neighbours are merged."""
    if not values.count:
        return Histogram(title, "s", np.empty(0), np.empty(0), note)
    merged = -(-values.counts.size // _BINS)
    at = np.arange(0, values.counts.size, merged)
    return Histogram(
        title,
        "s",
        np.append(values.edges[at], values.edges[-1]),
        np.add.reduceat(values.counts, at).astype(np.float64),
        note,
    )


def run_tables(measured: RunMeasurement, names: Mapping[int, str]) -> dict[str, Table]:
    """Return the tables by name, worst first; empty ones are left out."""
    use, contention = measured.temporal.result(), measured.contention.result()
    runs, pollution = measured.fragmentation.result().requests, measured.pollution.result()

    def name(request: int | None) -> Cell:
        return None if request is None else names.get(request, f"request {request}")

    tables = {
        "preempted": Table(
            "Preempted requests that cost most",
            ("request", "preemptions", "tokens_wasted", "waited_again_s"),
            tuple(
                (name(one.request), one.preemptions, one.wasted_tokens, one.waited_again_s)
                for one in contention.top_wasted[:_MOST_ROWS]
                if one.preemptions
            ),
            "wasted: computed, thrown away, and not found in the cache again",
        ),
        "stalls": Table(
            "Longest refusals at the head of the queue",
            ("request", "since_s", "refused_s", "blocks_needed", "blocks_free", "would_have_fitted",
             "held_up_s"),
            tuple(
                (name(one.request), one.time_s, one.refused_s, one.needed, one.free,
                 name(one.overtaking), one.head_of_line_s)
                for one in contention.stalls[:_MOST_ROWS]
            ),
            "would have fitted: the first later request that needed no more blocks than were free",
        ),
        "failures": Table(
            "Allocation failures while running",
            ("request", "at_s", "phase", "blocks_needed", "blocks_free", "preempted",
             "tokens_thrown"),
            tuple(
                (name(one.request), one.time_s, one.cause, one.needed, one.free,
                 name(one.preempted), one.thrown_tokens)
                for one in contention.failures[:_MOST_ROWS]
            ),
            "the ones whose preemption threw most away",
        ),
        "prefixes": Table(
            "Prefixes that served most",
            ("prefix", "from_block", "blocks", "requests", "tokens_served"),
            tuple(
                (f"{one.key:x}", one.depth_blocks, one.blocks, one.requests, one.tokens)
                for one in measured.reuse.result().prefixes[:_MOST_ROWS]
            ),
            "a prefix is named by the key of its first block",
        ),
        "waste_by_request": Table(
            "Requests that wasted most memory",
            ("request", "session", "wasted_slot_s", "mean_wasted_slots", "held_s"),
            tuple(
                (name(one.request), one.session, one.wasted_slot_ms / 1e3, one.mean_slots,
                 one.held_ms / 1e3)
                for one in use.top_requests[:_MOST_ROWS]
            ),
            "slots allocated and not filled, times how long",
        ),
        "pollution_by_session": Table(
            "Sessions that filled the cache with what nobody asked for again",
            ("session", "blocks"),
            tuple(pollution.top_sessions(_MOST_ROWS)),
        ),
        "runs_by_request": Table(
            "Requests in most pieces",
            ("request", "runs", "blocks"),
            tuple(
                (name(row), int(runs.runs[row]), int(runs.blocks[row]))
                for row in np.argsort(-runs.runs, kind="stable")[:_MOST_ROWS].tolist()
                if runs.runs[row] > 1
            ),
            "pieces cost transfers and offload; computing reads them as well as any",
        ),
    }  # fmt: skip
    return {key: table for key, table in tables.items() if table.rows}
