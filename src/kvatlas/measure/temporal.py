"""Temporal fragmentation: memory that is held over time without being used, and what for.

Owns: the three-way split over the clock, waste by phase (prefill and decode), waste by request and
session. Leaves to others: where free blocks lie (`layout`), the life of cached blocks.

Resident memory is every block that is owned or holds cached content, each counted once however many
requests share it; its slots are `resident_slot_ms` when integrated over the clock. They are either

* live: filled, in a block that somebody owns;
* not yet used: empty in an owned block, and filled later by the request that allocated it;
* never used: empty in an owned block until the request that allocated it gave the block back;
* idle but cached: in a block that nobody owns and that can still be hit (evictable).

The shares of the last three have `resident_slot_ms` as their common denominator and add up to
`waste.temporal`. The second and third over the owned slots alone are the internal waste
(`waste.internal_time_weighted`); a cache that keeps every block makes the idle share large, which
is no loss: those blocks are taken the moment that somebody needs them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.events.schema import NONE
from kvatlas.measure._request_use_kernel import (
    BLOCK,
    DECODE,
    GROUP,
    PHASE,
    PREFILL,
    REQUEST,
    STATE,
    TAIL,
    Use,
)
from kvatlas.measure.feeding import writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.temporal_result import PhaseUse, RequestUse, SessionUse, TemporalResult
from kvatlas.records import Record, one_record, records

__all__ = ["PhaseUse", "RequestUse", "SessionUse", "TemporalResult", "TemporalUse"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_TOP = 20
_NO_SLOTS = "a recurrent state is one piece: its block has no slots to waste"
_NO_TIME = "the clock stood still: a step takes 0 ms"
_NOT_TOLD = "the recording does not tell how many slots are empty"


class TemporalUse:
    """Follows a stream of resolved chunks. Memory: 16 bytes per block, 110 per request."""

    def __init__(self, header: Header) -> None:
        self._usable = header.usable_blocks
        self._has_slots = any(group.slots_hold_tokens for group in header.groups)
        groups = records(len(header.groups), GROUP)
        groups["slots"] = [
            group.block_size if group.slots_hold_tokens else 0 for group in header.groups
        ]
        requests = records(max(1, header.num_requests), REQUEST)
        requests["end_slots"] = requests["session"] = NONE
        blocks = records(header.num_blocks, BLOCK)
        blocks["epoch"] = NONE
        self._use = Use(
            state=one_record(
                STATE, kinds=int(np.count_nonzero(groups["slots"])), tail_request=NONE
            ),
            blocks=blocks,
            requests=requests,
            lengths=np.zeros((max(1, header.num_requests), len(header.groups)), np.int32),
            groups=groups,
            phases=records(2, PHASE),
            tails=records(1 + header.max_table_blocks * len(header.groups), TAIL),
            chunks=np.zeros(header.max_num_seqs, np.int32),
        )

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids)."""
        from kvatlas.measure._temporal_kernel import follow

        follow(self._use, *writable(chunk))

    def result(self) -> TemporalResult:
        """Return what was found so far; the state stays. O(requests log requests)."""
        state, requests = self._use.state, self._use.requests
        owned, idle = float(state.used_slot_ms), float(state.evictable_slot_ms)
        never, wasted = float(state.never_slot_ms), float(state.wasted_slot_ms)
        return TemporalResult(
            span_ms=float(state.now_ms - state.first_ms),
            busy_ms=float(state.busy_ms),
            resident_slot_ms=owned + idle,
            owned_slot_ms=owned,
            never_used_slot_ms=never,
            not_yet_used_slot_ms=wasted - never,
            idle_cached_slot_ms=idle,
            owned_block_ms=float(state.used_block_ms),
            evictable_block_ms=float(state.evictable_block_ms),
            prefill=_phase(self._use.phases[PREFILL]),
            decode=_phase(self._use.phases[DECODE]),
            top_requests=self._top_requests(),
            top_sessions=self._top_sessions(),
            waste_known=not state.unknown_waste,
            request_wasted_slot_ms=requests["wasted_slot_ms"].copy(),
            request_held_ms=self._held_ms(),
            request_end_slots=requests["end_slots"].copy(),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the `waste.*` figures that come from time, and resident usage."""
        result = self.result()
        shares = {
            "waste.temporal": result.temporal_slot_ms,
            "waste.never_used_share": result.never_used_slot_ms,
            "waste.not_yet_used_share": result.not_yet_used_slot_ms,
            "waste.idle_cached_share": result.idle_cached_slot_ms,
        }
        phases = (("prefill", result.prefill), ("decode", result.decode))
        lacking = _NO_SLOTS if not self._has_slots else "" if result.waste_known else _NOT_TOLD
        for name, slot_ms in shares.items():
            if lacking:
                sheet.lack(lacking, name)
            else:
                sheet.ratio(name, slot_ms, result.resident_slot_ms, _NO_TIME)
        for phase, use in phases:
            sheet.put(f"waste.{phase}_blocks", use.blocks)
            sheet.put(f"waste.{phase}_evictions", use.evictions)
            sheet.put(f"waste.{phase}_failures", use.failures)
            sheet.put(f"waste.{phase}_preemptions", use.preemptions)
            names = (f"waste.{phase}_mean_slots", f"waste.{phase}_share")
            if lacking:
                sheet.lack(lacking, *names)
            else:
                sheet.ratio(names[0], use.wasted_slot_ms, result.busy_ms, _NO_TIME)
                sheet.ratio(names[1], use.wasted_slot_ms, use.held_slot_ms, f"no {phase} in it")
        resident = result.owned_block_ms + result.evictable_block_ms
        sheet.ratio(
            "usage.resident_time_weighted", resident / self._usable, result.span_ms, _NO_TIME
        )
        ended = result.request_end_slots[result.request_end_slots != NONE]
        held = result.request_held_ms > 0
        names = ("waste.request_end_mean_slots", "waste.request_life_mean_slots")
        if lacking:
            sheet.lack(lacking, *names)
            return
        sheet.ratio(names[0], float(ended.sum()), ended.size, "no request ended")
        means = result.request_wasted_slot_ms[held] / result.request_held_ms[held]
        sheet.ratio(names[1], float(means.sum()), means.size, "no request held blocks for a time")

    def _held_ms(self) -> F64:
        state, requests = self._use.state, self._use.requests
        open_ms = np.where(requests["holds"] != 0, state.now_ms - requests["admitted_ms"], 0.0)
        held: F64 = requests["held_ms"] + open_ms
        return held

    def _top_requests(self) -> tuple[RequestUse, ...]:
        requests, held_ms = self._use.requests, self._held_ms()
        order = np.argsort(-requests["wasted_slot_ms"], kind="stable")[:_TOP]
        return tuple(
            RequestUse(
                request=row,
                session=_known(requests["session"][row]),
                wasted_slot_ms=float(requests["wasted_slot_ms"][row]),
                held_ms=float(held_ms[row]),
                mean_slots=float(requests["wasted_slot_ms"][row] / held_ms[row]),
                end_slots=_known(requests["end_slots"][row]),
            )
            for row in order.tolist()
            if held_ms[row] > 0 and requests["wasted_slot_ms"][row] > 0
        )

    def _top_sessions(self) -> tuple[SessionUse, ...]:
        requests = self._use.requests
        known = requests["session"] != NONE
        names, which = np.unique(requests["session"][known], return_inverse=True)
        wasted = np.bincount(which, weights=requests["wasted_slot_ms"][known])
        counts = np.bincount(which)
        order = np.argsort(-wasted, kind="stable")[:_TOP]
        return tuple(
            SessionUse(int(names[at]), int(counts[at]), float(wasted[at]))
            for at in order.tolist()
            if wasted[at] > 0
        )


def _phase(phase: Record) -> PhaseUse:
    return PhaseUse(
        blocks=int(phase.blocks),
        evictions=int(phase.evictions),
        failures=int(phase.failures),
        refusals=int(phase.refusals),
        preemptions=int(phase.preemptions),
        held_slot_ms=float(phase.held_slot_ms),
        wasted_slot_ms=float(phase.wasted_slot_ms),
    )


def _known(value: int) -> int | None:
    return None if value == NONE else int(value)
