"""The records of what a live view counts, its integrals over the clock, samples of all sums.

Owns: names and shapes, time that passes, thinning samples. Leaves to others: the loop over rows
(`_tally_kernel`), blocks (`_tally_blocks_kernel`), requests (`_tally_requests_kernel`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import kernel
from kvatlas.records import Record, Records, record_dtype

__all__ = [
    "GONE",
    "GROUP",
    "NOW",
    "PREEMPTED",
    "REQUEST",
    "RUNNING",
    "SUMS",
    "UNSEEN",
    "WAITING",
    "Tally",
    "pass_time",
    "take_sample",
]

I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
U8 = NDArray[np.uint8]

UNSEEN, WAITING, RUNNING, PREEMPTED, GONE = range(5)

SUMS = record_dtype(
    time_ms="f8",
    # Integrals over the clock.
    used_ms="f8",  # block ms
    evictable_ms="f8",
    held_ms="f8",  # slot ms, while the waste is known
    wasted_ms="f8",
    running_ms="f8",
    waiting_ms="f8",
    # Counts.
    steps="i8",
    tokens="i8",
    queries="i8",
    hits="i8",
    resumed_queries="i8",
    resumed_hits="i8",
    arrived="i8",
    admitted="i8",
    resumed="i8",
    preemptions="i8",
    finished="i8",
    aborted="i8",
    set_aside="i8",
    failed_admission="i8",
    failed_prefill="i8",
    failed_decode="i8",
    evicted_prefill="i8",
    evicted_decode="i8",
    evicted_explicit="i8",
    evicted_replaced="i8",
    resets="i8",
    forgotten="i8",
)
NOW = record_dtype(
    started="i8",
    first_ms="f8",
    sample_ms="f8",  # the next sample is taken at this time or later
    samples="i8",
    events="i8",
    step="i8",
    used="i8",  # blocks
    evictable="i8",
    held="i8",  # slots
    running="i8",
    waiting="i8",
    wasted="i8",  # slots after the last step, NONE when unknown
    step_held="i8",  # slots after the last step
    evicted="i8",  # by the allocation to come
)
GROUP = record_dtype(
    slots="i8",  # per block; 0 where blocks are not made of slots
    used="i8",
    evictable="i8",
    allocated="i8",
    touched="i8",
    cached="i8",
    evicted="i8",
)
REQUEST = record_dtype(
    tokens="i8",  # of the prompt
    computed="i8",
    hits="i8",
    since_ms="f8",  # in this state
    preemptions="i4",
    state="i1",
)


class Tally(NamedTuple):
    """N blocks, G groups, R requests, K samples."""

    sums: Record  # SUMS
    now: Record  # NOW
    groups: Records  # (G,) GROUP
    requests: Records  # (R,) REQUEST
    samples: Records  # (K,) SUMS
    flags: U8  # (N,)
    group_of: I8  # (N,) under which a block is used or cached
    kinds: int  # groups whose blocks are made of slots


@kernel
def pass_time(tally: Tally, to_ms: float, wasted: float) -> None:
    """Let the pool stay as it is until `to_ms`, with `wasted` slots empty (below 0: unknown)."""
    sums, now = tally.sums, tally.now
    span_ms = to_ms - sums.time_ms
    sums.time_ms = to_ms
    sums.used_ms += now.used * span_ms
    sums.evictable_ms += now.evictable * span_ms
    sums.running_ms += now.running * span_ms
    sums.waiting_ms += now.waiting * span_ms
    if wasted >= 0:
        sums.held_ms += now.held * span_ms
        sums.wasted_ms += wasted * span_ms


@kernel
def take_sample(tally: Tally, spacing_ms: float) -> None:
    """Keep the sums as they are now; a full table is thinned first."""
    now, samples = tally.now, tally.samples
    if now.samples == samples.shape[0]:
        detail = 0.25 * samples.shape[0]
        while 8 * now.samples > 7 * samples.shape[0]:
            _thin(tally, detail)
            detail = 0.8 * detail
    _copy(tally.sums, samples[now.samples])
    now.samples += 1
    now.sample_ms = tally.sums.time_ms + spacing_ms


@kernel
def _thin(tally: Tally, detail: float) -> None:
    """Give up samples where an interval may be as long as its age over `detail`; O(samples).

    So the course stays as detailed as its age allows, however long it gets. The first sample, where
    the recording begins, stays, and so does the last.
    """
    now, samples = tally.now, tally.samples
    kept = 1
    for at in range(1, now.samples):
        if at + 1 < now.samples:
            end_ms = samples[at + 1].time_ms
            if end_ms - samples[kept - 1].time_ms <= (tally.sums.time_ms - end_ms) / detail:
                continue
        _copy(samples[at], samples[kept])
        kept += 1
    now.samples = kept


@kernel
def _copy(source: Record, target: Record) -> None:
    target.time_ms = source.time_ms
    target.used_ms = source.used_ms
    target.evictable_ms = source.evictable_ms
    target.held_ms = source.held_ms
    target.wasted_ms = source.wasted_ms
    target.running_ms = source.running_ms
    target.waiting_ms = source.waiting_ms
    target.steps = source.steps
    target.tokens = source.tokens
    target.queries = source.queries
    target.hits = source.hits
    target.resumed_queries = source.resumed_queries
    target.resumed_hits = source.resumed_hits
    target.arrived = source.arrived
    target.admitted = source.admitted
    target.resumed = source.resumed
    target.preemptions = source.preemptions
    target.finished = source.finished
    target.aborted = source.aborted
    target.set_aside = source.set_aside
    target.failed_admission = source.failed_admission
    target.failed_prefill = source.failed_prefill
    target.failed_decode = source.failed_decode
    target.evicted_prefill = source.evicted_prefill
    target.evicted_decode = source.evicted_decode
    target.evicted_explicit = source.evicted_explicit
    target.evicted_replaced = source.evicted_replaced
    target.resets = source.resets
    target.forgotten = source.forgotten
