"""What `temporal` finds: integrals over the clock, by use, phase, request and session.

Owns: the shapes and what each field means. Leaves to others: how they come about (`temporal`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["PhaseUse", "RequestUse", "SessionUse", "TemporalResult"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PhaseUse:
    """What prefill or decode did to memory.

    Attributes:
        blocks: allocated for it.
        evictions: cached blocks that lost their content to these allocations.
        failures: allocations for running requests that were refused.
        refusals: admissions refused, one per step (prefill only: decoding requests are admitted).
        preemptions: requests that lost their blocks to the failures.
        held_slot_ms: slots in the tables of the requests in this phase, integrated over the clock
            (shared blocks count for each of them).
        wasted_slot_ms: those of them that hold no token.
    """

    blocks: int
    evictions: int
    failures: int
    refusals: int
    preemptions: int
    held_slot_ms: float
    wasted_slot_ms: float


@dataclass(frozen=True, slots=True)
class RequestUse:
    """A request that wastes slots: `mean_slots` over the time in which it held blocks."""

    request: int
    session: int | None
    wasted_slot_ms: float
    held_ms: float
    mean_slots: float
    end_slots: int | None


@dataclass(frozen=True, slots=True)
class SessionUse:
    """A session whose requests waste slots."""

    session: int
    requests: int
    wasted_slot_ms: float


@dataclass(frozen=True, slots=True)
class TemporalResult:
    """The integrals over the clock, slot-milliseconds, up to the last event.

    Attributes:
        span_ms: from the first event to the end of the last step.
        busy_ms: the part in which steps ran.
        resident_slot_ms: owned and evictable slots; `owned_slot_ms`: the owned ones.
        never_used_slot_ms, not_yet_used_slot_ms, idle_cached_slot_ms: see the module. What is empty
            in the blocks of requests that still run counts as not yet used.
        prefill, decode: a step's waste belongs to prefill as far as it lies in the tables of
            requests that compute a part of their prompt in that step.
        request_wasted_slot_ms, request_held_ms: (R,) up to the last time that the stream named the
            request's tokens. Exact for requests that take part in every decoding step; the tokens
            of others (the last one in flight with async scheduling, or more decoding requests than
            a step takes) are spread evenly over the steps. The sums above are exact all the same.
        request_end_slots: (R,) empty slots when it gave its blocks back, `NONE` until then.
        top_requests, top_sessions: those that waste most, at most twenty.
        waste_known: False when the recording does not say how many slots are empty.
    """

    span_ms: float
    busy_ms: float
    resident_slot_ms: float
    owned_slot_ms: float
    never_used_slot_ms: float
    not_yet_used_slot_ms: float
    idle_cached_slot_ms: float
    owned_block_ms: float
    evictable_block_ms: float
    prefill: PhaseUse
    decode: PhaseUse
    top_requests: tuple[RequestUse, ...]
    top_sessions: tuple[SessionUse, ...]
    waste_known: bool
    request_wasted_slot_ms: F64 = field(repr=False)
    request_held_ms: F64 = field(repr=False)
    request_end_slots: I64 = field(repr=False)

    @property
    def internal_slot_ms(self) -> float:
        """Empty slots of owned blocks."""
        return self.never_used_slot_ms + self.not_yet_used_slot_ms

    @property
    def temporal_slot_ms(self) -> float:
        """Resident slots that are not live."""
        return self.internal_slot_ms + self.idle_cached_slot_ms
