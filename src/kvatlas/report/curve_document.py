"""What `kvatlas curve` and `kvatlas policies` show, frozen and measured; every view gets the same.

Owns: the shapes. Leaves to others: measuring (`kvatlas.measure.curves`, `kvatlas.eviction`), advice
(`kvatlas.plan.capacity`), each view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves import Ceiling, CurveTable

__all__ = [
    "Advice",
    "Bottleneck",
    "Bounds",
    "CurveDocument",
    "EnginePoint",
    "Mark",
    "PoliciesDocument",
    "PolicyRow",
]

I64 = NDArray[np.int64]

Bottleneck = Literal["capacity", "policy", "configuration", "traffic"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Four token hit rates in falling order at one capacity, and which gap matters most.

    Attributes:
        capacity_blocks: of the cache.
        content: prompt tokens whose prefix was ever seen, over all: what the traffic allows.
        ceiling: the same in whole blocks, the last token computed again: no limit of capacity.
        optimum: the best that any eviction policy could reach at this capacity.
        lru: LRU at this capacity, a prefix cache alone.
        engine: the engine as configured, from a replay; None when none was made.
        bottleneck: what costs most between content and what is reached; `traffic` when that is
            little beside what the traffic itself lacks.
        reason: one sentence with the figures.
    """

    capacity_blocks: int
    content: float
    ceiling: float
    optimum: float
    lru: float
    engine: float | None
    bottleneck: Bottleneck
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A memory size on the curve: a tier together with the tiers before it.

    Attributes:
        name: such as `HBM`, `HBM + host`.
        memory_bytes: all of them together.
        capacity_blocks: what fits; token hit rates there: `lru`, `optimum`.
        prefill_speedup: 1 / (1 - a h), the ideal; a is the share of prefill that hits save.
    """

    name: str
    memory_bytes: int
    capacity_blocks: int
    lru: float
    optimum: float
    prefill_speedup: float


@dataclass(frozen=True, slots=True)
class EnginePoint:
    """The engine at one pool size, replayed: pinning, outputs, many requests at once.

    Attributes:
        num_blocks: the pool as the engine counts it; capacity_blocks: those that hold content.
        token_hit_rate, hit_tokens: at first admissions; preemptions: in the whole replay.
        never_served: requests that cannot fit into the pool at all.
    """

    num_blocks: int
    capacity_blocks: int
    hit_tokens: int
    queried_tokens: int
    token_hit_rate: float
    preemptions: int
    never_served: int


@dataclass(frozen=True, slots=True)
class Advice:
    """The capacity for a wanted token hit rate, checked on a half of the trace not used for it.

    Attributes:
        target: token hit rate wanted, 0 to 1.
        capacity_blocks: what the whole trace needs under LRU; None when no capacity reaches it.
        memory_bytes: the same in bytes, None without a model.
        low_blocks, high_blocks: 95% interval, by resampling stretches of the trace.
        first_half_blocks, second_half_blocks: what either half needs alone; None as above.
        held_out_error: the first half's answer over the second's need, less 1.
        converged: the answer of the first half is within 2% of the second half's need, and the
            interval has an end.
        reason: why not converged; empty when it is.
    """

    target: float
    capacity_blocks: int | None
    memory_bytes: int | None
    low_blocks: int | None
    high_blocks: int | None
    first_half_blocks: int | None
    second_half_blocks: int | None
    held_out_error: float | None
    converged: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CurveDocument:
    """All there is to say about capacity for one trace.

    Attributes:
        title: the trace's name; version: kvatlas's.
        config: block_size, count_partial, with_outputs, bytes_per_block (None without a model), ...
        workload: as in the JSON of a replay.
        table: hits, optimum and misses by capacity.
        table_note: how the capacities were chosen.
        ceiling, warm_ceiling: without a limit of capacity; all requests, and those after a warm-up.
        distinct_blocks: what a cache that never evicts would hold.
        knee: bounds at the knee; focus: at the capacity that was asked about, None without.
        marks, engine, advice: see there; empty when not asked for.
        headline: one or two sentences to read first.
        notes: plain sentences that a user must read.
        timing: seconds by stage.
        partial: why it is only a part, empty when it is whole.
        focus_name: what people call the capacity of `focus`.
    """

    title: str
    version: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    table: CurveTable
    table_note: str
    ceiling: Ceiling
    warm_ceiling: Ceiling
    distinct_blocks: int
    knee: Bounds
    focus: Bounds | None
    marks: tuple[Mark, ...]
    engine: tuple[EnginePoint, ...]
    advice: tuple[Advice, ...]
    headline: tuple[str, ...]
    notes: tuple[str, ...]
    timing: Mapping[str, float]
    partial: str = ""
    focus_name: str = "--blocks"

    @property
    def engine_rates(self) -> dict[int, float]:
        """Token hit rate of the engine by capacity: every replay, and the bounds that know it."""
        rates = {point.capacity_blocks: point.token_hit_rate for point in self.engine}
        if self.focus is not None and self.focus.engine is not None:
            rates[self.focus.capacity_blocks] = self.focus.engine
        return dict(sorted(rates.items()))


@dataclass(frozen=True, slots=True, eq=False)
class PolicyRow:
    """One policy over all capacities: (K,) hits; `seconds` is what computing them took.

    Attributes:
        name, title, summary: for people; `kind` is `policy`, or `bound` for optimum and ceiling.
        hit_blocks, hit_tokens: (K,).
        gap_closed: (K,) share of the way from LRU to the optimum, in hit blocks; NaN without a gap.
    """

    name: str
    title: str
    summary: str
    kind: Literal["policy", "bound"]
    hit_blocks: I64
    hit_tokens: I64
    gap_closed: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, slots=True)
class PoliciesDocument:
    """Eviction policies side by side on one trace.

    Attributes:
        capacity_blocks: (K,) rising.
        rows: `lru` first, then the other policies, then `optimum` and `ceiling`.
        engine: by policy name, its replays in the engine; empty when not asked for.
        verdict: sentences; the first says what to do, such as "Stay on LRU."
        others: as in `CurveDocument`.
    """

    title: str
    version: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    capacity_blocks: I64
    queried_blocks: int
    queried_tokens: int
    knee_blocks: int
    rows: tuple[PolicyRow, ...]
    engine: Mapping[str, tuple[EnginePoint, ...]]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    timing: Mapping[str, float]
    partial: str = ""
