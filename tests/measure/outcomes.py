"""Made-up outcomes of runs, whose figures can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload import Workload

F64 = NDArray[np.float64]

SUMS = {
    "clock_ms": 1000.0,
    "busy_ms": 1000.0,
    "used_block_ms": 50_000.0,
    "wasted_slot_ms": 40_000.0,
    "running_ms": 2000.0,
    "waiting_ms": 500.0,
    "refused_ms": 100.0,
    "hits": 30.0,
    "queries": 120.0,
    "missed": 90.0,
    "missed_cold": 60.0,
    "missed_capacity": 20.0,
    "preemptions": 2.0,
    "recomputed_tokens": 7.0,
    "failed_running": 3.0,
    "failed_waiting": 4.0,
    "evictions": 5.0,
    "allocations": 60.0,
}
DECISIONS: dict[str, int | float | str] = {
    "scheduled_tokens": 140,
    "preemptions": 2,
    "prefix_queries": 120,
    "prefix_hits": 30,
    "preempted_queries": 0,
    "preempted_hits": 0,
    "peak_usage": 0.75,
    "mean_usage": 0.4,
}
NEVER = np.full(3, np.nan)


@dataclass
class MadeUp:
    """An outcome; by default nothing happened to any of its three requests."""

    decisions: dict[str, int | float | str] = field(default_factory=lambda: dict(DECISIONS))
    sums: dict[str, float] = field(default_factory=lambda: dict(SUMS))
    first_scheduled_ms: F64 = field(default_factory=NEVER.copy)
    first_token_ms: F64 = field(default_factory=NEVER.copy)
    finished_ms: F64 = field(default_factory=NEVER.copy)


def three_requests(
    *,
    arrival_s: tuple[float, float, float] = (0.0, 0.1, 0.2),
    output_tokens: tuple[int, int, int] = (1, 3, 5),
    prefix_known: bool = True,
) -> Workload:
    """Prompts of 40 tokens in identities of 16; the second repeats the first, the third half."""
    ids = [0, 1, 2, 0, 1, 2, 0, 3, 4] if prefix_known else []
    counts = [3, 3, 3] if prefix_known else [0, 0, 0]
    workload = Workload(
        name="three",
        source="made up",
        arrival_s=np.array(arrival_s),
        prompt_tokens=np.full(3, 40, np.int32),
        output_tokens=np.array(output_tokens, np.int32),
        tokens_per_id=16,
        ids=np.array(ids, np.int32),
        id_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        num_ids=5 if prefix_known else 0,
        prefix_known=prefix_known,
        outputs_identified=False,
        session=np.full(3, -1, np.int32),
        parent=np.full(3, -1, np.int32),
        priority=np.zeros(3, np.int32),
        salt=np.zeros(3, np.int32),
    )
    workload.check()
    return workload
