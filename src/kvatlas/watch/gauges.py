"""Pool, waste, runs and cache of a moment, by the formulas of the metrics page.

Owns: these figures, and the reason for each that is not there. Leaves to others: the rest of the
moment (`picture`), counting (`tally`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Header, PoolState
from kvatlas.measure import Pollution
from kvatlas.measure.feeding import NO_REFERENCE_GROUP, reference_group
from kvatlas.measure.fragmentation.layout import run_set
from kvatlas.watch.alerts import AlertBook
from kvatlas.watch.history import Window
from kvatlas.watch.moment import Evictions, Failures, FreeRuns, Health, Pool, Prefix, Waste
from kvatlas.watch.source import EngineFeed
from kvatlas.watch.tally import LiveTally

__all__ = [
    "Lacks",
    "Sight",
    "evictions_of",
    "failures_of",
    "pool_of",
    "prefix_of",
    "runs_of",
    "waste_of",
]

_OFF = "prefix caching is off"
_NO_ADMISSION = "no request was admitted"
_NO_SLOTS = "the groups' blocks differ in slots, or have none: no one share"
_NOT_TOLD = "the recording does not tell how many slots are empty"
_NOTHING_HELD = "no slot is held"
_NO_PAGES = "the recording does not tell the pages' sizes"


class Sight(NamedTuple):
    """What a moment is made from."""

    header: Header
    state: PoolState
    tally: LiveTally
    pollution: Pollution
    feed: EngineFeed
    health: Health
    generation: int
    book: AlertBook


class Lacks(dict[str, str]):
    """Why fields are None, by their dotted names."""

    def ratio(self, name: str, part: float, whole: float | None, otherwise: str) -> float | None:
        if whole:
            return part / whole
        self[name] = otherwise
        return None


def pool_of(sight: Sight, lacks: Lacks) -> Pool:
    header, tally, counts = sight.header, sight.tally, sight.state.blocks.counts
    total = header.usable_blocks
    used, evictable = int(counts.used), int(counts.evictable)
    sizes = {group.block_size if group.slots_hold_tokens else 0 for group in header.groups}
    one_size = next(iter(sizes)) if len(sizes) == 1 else 0
    slots = total * one_size if one_size else None
    wasted = tally.wasted_slots
    held = int(tally.now.step_held) if used else 0
    live = None if wasted is None or not header.slot_groups else max(0, held - wasted)
    if slots is None:
        lacks["pool.total_slots"] = lacks["pool.slot_usage"] = _NO_SLOTS
    if live is None:
        lacks["pool.live_slots"] = lacks["pool.slot_usage"] = _NOT_TOLD
    pages = {group.page_size_bytes for group in header.groups}
    page = next(iter(pages)) if len(pages) == 1 else 0
    if not page:
        lacks["pool.bytes"] = _NO_PAGES
    return Pool(
        total_blocks=total,
        used_blocks=used,
        evictable_blocks=evictable,
        empty_blocks=total - used - evictable,
        free_blocks=total - used,
        usage=used / total if total else 0.0,
        resident=(used + evictable) / total if total else 0.0,
        total_slots=slots,
        held_slots=held if header.slot_groups else None,
        live_slots=live,
        slot_usage=live / slots if live is not None and slots else None,
        bytes=page * header.num_blocks or None,
    )


def waste_of(tally: LiveTally, pool: Pool, minute: Window, lacks: Lacks) -> Waste:
    wasted = tally.wasted_slots if pool.held_slots is not None else None
    if wasted is None:
        lacks["waste.wasted_slots"] = lacks["waste.internal"] = _NOT_TOLD
    internal = None
    if wasted is not None:
        internal = lacks.ratio("waste.internal", wasted, pool.held_slots, _NOTHING_HELD)
    sums = tally.sums
    return Waste(
        wasted_slots=wasted,
        internal=internal,
        internal_time_weighted=lacks.ratio(
            "waste.internal_time_weighted",
            float(sums.wasted_ms),
            float(sums.held_ms),
            _NOTHING_HELD,
        ),
        internal_60s=lacks.ratio(
            "waste.internal_60s", minute["wasted_ms"], minute["held_ms"], _NOTHING_HELD
        ),
    )


def runs_of(free: NDArray[np.bool_]) -> FreeRuns:
    runs = run_set(free)
    return FreeRuns(
        blocks=runs.blocks,
        count=runs.count,
        mean=runs.mean if runs.count else None,
        p50=runs.p50,
        p99=runs.p99,
        largest=runs.largest,
        efi=runs.efi if runs.blocks else None,
    )


def prefix_of(header: Header, tally: LiveTally, minute: Window, lacks: Lacks) -> Prefix:
    sums = tally.sums
    why = _NO_ADMISSION if header.caching else _OFF
    return Prefix(
        queries=int(sums.queries),
        hits=int(sums.hits),
        token_hit_rate=lacks.ratio("prefix.token_hit_rate", int(sums.hits), int(sums.queries), why),
        queries_60s=round(minute["queries"]),
        hits_60s=round(minute["hits"]),
        token_hit_rate_60s=lacks.ratio(
            "prefix.token_hit_rate_60s", minute["hits"], minute["queries"], why
        ),
        resumed_queries=int(sums.resumed_queries),
        resumed_hits=int(sums.resumed_hits),
    )


def evictions_of(sight: Sight, lacks: Lacks) -> Evictions:
    sums, header = sight.tally.sums, sight.header
    premature = never = None
    if not header.caching or reference_group(header) is None:
        why = NO_REFERENCE_GROUP if header.caching else _OFF
        lacks["evictions.premature"] = lacks["evictions.never_asked"] = why
    else:
        lost = sight.pollution.result()
        premature, never = lost.premature_blocks, lost.never_asked_blocks
    parts = {
        name: int(sums[f"evicted_{name}"]) for name in ("prefill", "decode", "explicit", "replaced")
    }
    return Evictions(
        total=sum(parts.values()),
        **parts,
        premature=premature,
        never_asked=never,
        resets=int(sums.resets),
        forgotten=int(sums.forgotten),
    )


def failures_of(tally: LiveTally) -> Failures:
    parts = {name: int(tally.sums[f"failed_{name}"]) for name in ("admission", "prefill", "decode")}
    return Failures(total=sum(parts.values()), **parts)
