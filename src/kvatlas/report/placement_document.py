"""What `kvatlas bench placement` shows, frozen and measured; every view gets the same.

Owns: the shapes, and figures that are a quotient of two others. Leaves to others: measuring
(`kvatlas.measure.contiguity`), running and the verdict (`kvatlas.plan.placement`), each view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.measure.contiguity import ContiguityResult

__all__ = ["QUEUE", "PlacementDocument", "PlacementRow"]

QUEUE = "queue"
"""The name of vLLM's own order, which the others are held against."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacementRow:
    """One placement policy on one workload, driven in one way.

    Attributes:
        name, title, summary, source: of the policy.
        measured: tables at the ends of requests, and free blocks along the way.
        same_hits: whether every request was served exactly the queue's hits.
        never_served: requests that cannot fit into the pool at all.
        preemptions: in the whole run.
        allocated_blocks, allocations: what the pool gave, and in how many calls.
        pool_s: processor time that the pool alone took for the same calls (allocate, cache, touch,
            free).
        seconds: what finding all this out took.
    """

    name: str
    title: str
    summary: str
    source: str
    measured: ContiguityResult
    same_hits: bool
    never_served: int
    preemptions: int
    allocated_blocks: int
    allocations: int
    pool_s: float
    seconds: float

    @property
    def runs_per_request(self) -> float:
        """Mean runs of the block table when a request ends; NaN when none did."""
        return self.measured.tables.mean("runs")

    @property
    def hit_tokens(self) -> int:
        """Prompt tokens served from the cache at first admissions."""
        return int(self.measured.tables.hit_tokens.sum())

    @property
    def queried_tokens(self) -> int:
        """Prompt tokens looked up at first admissions."""
        return int(self.measured.tables.queried_tokens.sum())

    @property
    def token_hit_rate(self) -> float:
        """Hit over queried tokens, 0 to 1; NaN when none was looked up."""
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else float("nan")

    @property
    def ns_per_block(self) -> float:
        """Processor nanoseconds of the pool alone per block it gave; NaN when it gave none."""
        blocks = self.allocated_blocks
        return 1e9 * self.pool_s / blocks if blocks else float("nan")

    def times_fewer(self, other: PlacementRow) -> float:
        """Return how many times fewer runs per request than `other` it has; NaN where unknown."""
        runs = self.runs_per_request
        return other.runs_per_request / runs if runs > 0 else float("nan")

    def rate_change(self, other: PlacementRow) -> float:
        """Return its token hit rate less that of `other`; NaN where nothing was looked up."""
        return self.token_hit_rate - other.token_hit_rate


@dataclass(frozen=True, slots=True, eq=False)
class PlacementDocument:
    """Placement policies side by side on one workload.

    Attributes:
        title: the trace's name; version: kvatlas's.
        config: settings by the names of their flags.
        workload: as in the JSON of a replay.
        num_blocks: in the pool, the null block included; pool_note: why so many.
        open_loop: requests one after another, whole prompts at once, inputs only; the queue first.
        scheduler: the same in the engine as configured; empty when not asked for.
        verdict: sentences; the first says what to do.
        notes: plain sentences that a user must read.
        timing: seconds by stage.
        partial: why it is only a part, empty when it is whole.
    """

    title: str
    version: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    num_blocks: int
    pool_note: str
    open_loop: tuple[PlacementRow, ...]
    scheduler: tuple[PlacementRow, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    timing: Mapping[str, float]
    partial: str = ""
