"""The tracker's clock, integrals and samples, and all that one argument hands to its kernels.

Owns: names and shapes. Leaves to others: changing them (`_tracker_kernel`), making them
(`tracker_state`), reading them out (`tracker`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.fragmentation._pool_kernel import Pool
from kvatlas.measure.fragmentation._tables_kernel import Tables
from kvatlas.records import Record, Records, record_dtype
from kvatlas.runs._words_kernel import Lengths

F64 = NDArray[np.float64]

CLOCK = record_dtype(
    started="i8",
    start_ms="f8",
    now_ms="f8",
    end_ms="f8",  # when the last step that was seen is over
    steps="i8",
    sample_at="i8",  # the number of steps from which on to sample
    spacing="i8",  # steps from one sample to the next
    samples="i8",
    looks="i8",
    looked_at="i8",  # `changed` at the last look
    held_ms="f8",  # the time of the last look: what it saw holds until the next one
)
SUMS = record_dtype(
    span_ms="f8",
    used_ms="f8",  # block ms
    empty_ms="f8",
    free_runs_ms="f8",  # run ms
    empty_runs_ms="f8",
    table_runs_ms="f8",
    table_blocks_ms="f8",
    holders_ms="f8",  # request ms
)
SHAPE_SUMS = record_dtype(members_ms="f8", largest_ms="f8", efi_ms="f8")
SAMPLE = record_dtype(
    time_ms="f8",
    used_ms="f8",
    empty_ms="f8",
    used="i8",
    empty="i8",
    free_runs="i8",
    empty_runs="i8",
    largest_free="i8",
    largest_empty="i8",
    table_runs="i8",
    table_blocks="i8",
    holders="i8",
)


class Tracker(NamedTuple):
    """Everything that the events change. Of two: free, then empty."""

    pool: Pool
    tables: Tables
    clock: Record  # CLOCK
    sums: Record  # SUMS
    shapes: Records  # (2,) SHAPE_SUMS
    order_ms: F64  # (2, ORDERS) run ms by length
    ufsi_ms: F64  # (2, ORDERS)
    free: Lengths  # as last looked at; in exact mode those of its `Runs`
    empty: Lengths
    samples: Records  # (most,) SAMPLE
