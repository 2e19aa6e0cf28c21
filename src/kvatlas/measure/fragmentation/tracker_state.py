"""The tracker's first state, and a copy of it that may be closed while the stream goes on.

Owns: shapes and first values. Leaves to others: changing them (`_tracker_kernel`), reading them out
(`tracker`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.header import Header
from kvatlas.events.schema import NONE
from kvatlas.measure.fragmentation._pool_kernel import COUNTS, Exact, Pool
from kvatlas.measure.fragmentation._states_kernel import CACHED, FRONT, USED
from kvatlas.measure.fragmentation._tables_kernel import HOLDER, REQUEST, TOTALS, Tables
from kvatlas.measure.fragmentation._tracker_arrays_kernel import (
    CLOCK,
    SAMPLE,
    SHAPE_SUMS,
    SUMS,
    Tracker,
)
from kvatlas.records import Record, one_record, records
from kvatlas.runs._words_kernel import ORDERS, Lengths
from kvatlas.runs.run_index import make_runs

__all__ = ["closable", "make_exact", "make_tracker", "states_of", "thin_samples"]

Flags = NDArray[np.bool_]
U8 = NDArray[np.uint8]


def make_exact(header: Header) -> Exact:
    """Return the runs before the first event: all blocks are one, free and empty; O(N)."""
    free = np.ones(header.num_blocks, bool)
    free[0] = not header.has_null
    return Exact(make_runs(free), make_runs(free))


def make_tracker(header: Header, exact: Exact | None, most_samples: int) -> Tracker:
    """Return the state before the first event: every block is empty; O(N)."""
    free = np.ones(header.num_blocks, bool)
    free[0] = not header.has_null
    runs = int(header.usable_blocks > 0)
    states = states_of(~free, np.zeros_like(free))
    seen = make_runs(free).seen
    replayed = header.producer == "replay"  # its clock begins at 0, before the first event
    return Tracker(
        pool=Pool(
            states=states,
            words=states.view(np.uint64),
            counts=one_record(
                COUNTS,
                first_block=int(header.has_null),
                usable=header.usable_blocks,
                empty=header.usable_blocks,
                free_runs=runs,
                empty_runs=runs,
            ),
        ),
        tables=_make_tables(header),
        clock=one_record(CLOCK, started=int(replayed), now_ms=0 if replayed else NONE, spacing=1),
        sums=one_record(SUMS),
        shapes=records(2, SHAPE_SUMS),
        order_ms=np.zeros((2, ORDERS)),
        ufsi_ms=np.zeros((2, ORDERS)),
        free=exact.free.seen if exact is not None else _copy_lengths(seen),
        empty=exact.empty.seen if exact is not None else _copy_lengths(seen),
        samples=records(most_samples, SAMPLE),
    )


def closable(tracker: Tracker, exact: Exact | None) -> Tracker:
    """Return a state of which closing changes nothing in `tracker`; O(samples).

    Blocks, tables and exact runs are shared: closing only looks at them.
    """
    return tracker._replace(
        pool=tracker.pool._replace(counts=_copy(tracker.pool.counts)),
        clock=_copy(tracker.clock),
        sums=_copy(tracker.sums),
        shapes=tracker.shapes.copy(),
        order_ms=tracker.order_ms.copy(),
        ufsi_ms=tracker.ufsi_ms.copy(),
        free=tracker.free if exact is not None else _copy_lengths(tracker.free),
        empty=tracker.empty if exact is not None else _copy_lengths(tracker.empty),
        samples=tracker.samples.copy(),
    )


def thin_samples(tracker: Tracker) -> None:
    """Drop every other sample and take half as many from now on.

    The newest stays: integrals only grow, so the intervals that merge lose nothing.
    """
    clock = tracker.clock
    kept = tracker.samples[1 - int(clock.samples) % 2 : int(clock.samples) : 2].copy()
    tracker.samples[: kept.size] = kept
    clock.samples = kept.size
    clock.spacing *= 2
    clock.sample_at = clock.steps + clock.spacing


def states_of(used: Flags, cached: Flags) -> U8:
    """Return the states of N blocks, (N,) flags each, as kernels want them; O(N)."""
    states = np.full((2 + -(-used.size // 64)) * 64, USED, np.uint8)
    states[FRONT : FRONT + used.size] = used * np.uint8(USED) + cached * np.uint8(CACHED)
    return states


def _make_tables(header: Header) -> Tables:
    seqs, groups = header.max_num_seqs, len(header.groups)
    tables = Tables(
        # Memory that is never written to is never there.
        cells=np.empty((seqs, groups, header.max_table_blocks), np.int32),
        lengths=np.zeros((seqs, groups), np.int32),
        holders=records(seqs, HOLDER),
        requests=records(max(1, header.num_requests), REQUEST),
        free_slots=np.arange(seqs, dtype=np.int32)[::-1].copy(),
        totals=one_record(TOTALS, free_slots=seqs),
    )
    tables.holders["request"][:] = NONE
    tables.requests["slot"][:] = NONE
    tables.requests["session"][:] = NONE
    return tables


def _copy(record: Record) -> Record:
    names = record.dtype.names
    return one_record(record.dtype, **{name: record[name] for name in names})


def _copy_lengths(lengths: Lengths) -> Lengths:
    return Lengths(_copy(lengths.runs), lengths.by_order.copy(), lengths.with_bit.copy())
