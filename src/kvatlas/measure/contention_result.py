"""What `contention` finds: failures, stalls, and what waiting did to each request.

Owns: the shapes and what each field means. Leaves to others: how they come about (`contention`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["ContentionResult", "Failure", "RequestWaits", "Stall"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Failure:
    """A running request found no slots, and another lost its blocks.

    Attributes:
        event: the row's number in the stream.
        cause: `prefill` or `decode`.
        needed, free: blocks; `largest_free_run`: of consecutive ids at that moment, None unasked.
        preempted: who lost `thrown_tokens` computed tokens, None for nobody.
    """

    event: int
    step: int
    time_s: float
    request: int
    cause: str
    needed: int | None
    free: int | None
    largest_free_run: int | None
    preempted: int | None
    thrown_tokens: int


@dataclass(frozen=True, slots=True)
class Stall:
    """The head of the queue was refused, step after step.

    Attributes:
        event, step, time_s: when it began.
        needed, free: blocks at the beginning; `largest_free_run` as in `Failure`.
        overtaking: a later request that would have fitted, None for none.
        refused_s: how long; `head_of_line_s`: of that, while a later request would have fitted.
    """

    event: int
    step: int
    time_s: float
    request: int
    needed: int | None
    free: int | None
    largest_free_run: int | None
    overtaking: int | None
    steps: int
    refused_s: float
    head_of_line_s: float


@dataclass(frozen=True, slots=True)
class RequestWaits:
    """What waiting and preemption did to one request.

    Attributes:
        queued_s: arrival to first admission, None while it waits.
        refused_s: at the head of the queue, refused; `held_up_s`: it would have fitted, but the
            head was refused.
        preemptions: how often it lost its blocks; `waited_again_s`: until it got some again.
        wasted_tokens: computed, thrown away, and not found in the cache when it came back.
        caused_preemptions, caused_wasted_tokens: what others lost for it.
    """

    request: int
    queued_s: float | None
    refused_s: float
    held_up_s: float
    preemptions: int
    waited_again_s: float
    wasted_tokens: int
    caused_preemptions: int
    caused_wasted_tokens: int


@dataclass(frozen=True, slots=True)
class ContentionResult:
    """What was refused, and what it cost.

    Attributes:
        span_ms: from the first event to the end of the last step.
        refused_ms: steps in which the head of the queue was refused; `head_of_line_ms`: those of
            them in which a later request would have fitted.
        failed_admission, failed_prefill, failed_decode: refused attempts, one per step or request.
        computed_tokens: by all steps. thrown_tokens: lost by `preemptions`. wasted_tokens: of
            these, not found again at the readmission. waiting_tokens: of these, lost by requests
            that had not come back by the last event.
        preempted_requests, preempted_again: preempted at all, and more than once.
        most_preemptions: of a single request.
        stalls, failures: the costliest, costliest first, at most fifty each.
        top_queued, top_wasted, top_causes, top_held_up: requests, worst first, at most twenty;
            none queued in a backlog, which is refilled as it empties.
        queued_ms: (R,) arrival to first admission, NaN where it did not happen.
        request_wasted_tokens, request_preemptions: (R,).
    """

    span_ms: float
    refused_ms: float
    head_of_line_ms: float
    failed_admission: int
    failed_prefill: int
    failed_decode: int
    computed_tokens: int
    preemptions: int
    thrown_tokens: int
    wasted_tokens: int
    waiting_tokens: int
    preempted_requests: int
    preempted_again: int
    most_preemptions: int
    stalls: tuple[Stall, ...]
    failures: tuple[Failure, ...]
    top_queued: tuple[RequestWaits, ...]
    top_wasted: tuple[RequestWaits, ...]
    top_causes: tuple[RequestWaits, ...]
    top_held_up: tuple[RequestWaits, ...]
    queued_ms: F64 = field(repr=False)
    request_wasted_tokens: NDArray[np.int64] = field(repr=False)
    request_preemptions: NDArray[np.int32] = field(repr=False)
