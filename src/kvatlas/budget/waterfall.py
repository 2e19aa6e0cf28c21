"""From a device's memory down to what is left for the KV cache, term by term.

Owns: vLLM's arithmetic, and what each term's figure rests on. Leaves to others: the figures
(`ranks`, `estimates`, `startup_log`), blocks (`fit`).

Source: vllm/v1/worker/gpu_worker.py (`determine_available_memory`), v1/worker/utils.py
(`request_memory`), utils/mem_utils.py; 0.32.0. The fragmentation buffer is that of
github.com/vllm-project/vllm/pull/37428, which was closed and never merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kvatlas.errors import InputError, InvariantError

__all__ = ["Basis", "Buffers", "Term", "Waterfall", "requested_bytes"]

Basis = Literal["exact", "estimated", "measured", "given"]
"""`exact` is computed from shapes and settings, `measured` read from a log or a snapshot, `given`
on the command line, `estimated` from a formula that `how` states."""

LEAST_BUFFER_BYTES = 150 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One step of the waterfall.

    Attributes:
        name: what it is.
        size_bytes: what it takes.
        basis: what the figure rests on.
        how: the formula, the source or the flag, in words.
    """

    name: str
    size_bytes: int
    basis: Basis
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """What becomes of one device's memory.

    Attributes:
        total_bytes: the device's.
        requested_bytes: what vLLM may use of it.
        terms: what is taken off the requested memory, in order.
        kv_bytes: what is left for the KV cache, or was asked for; below 0 where nothing is left.
        kv_basis: `given` where `--kv-cache-memory-bytes` says it.
        free_at_start_bytes: free when vLLM begins to count, an estimate unless measured.
    """

    total_bytes: int
    requested_bytes: int
    terms: tuple[Term, ...]
    kv_bytes: int
    kv_basis: Basis
    free_at_start_bytes: int

    @property
    def taken_bytes(self) -> int:
        """All terms together."""
        return sum(term.size_bytes for term in self.terms)

    @property
    def unused_bytes(self) -> int:
        """What neither the terms nor the KV cache take; below 0 where memory is promised twice."""
        return self.free_at_start_bytes - self.taken_bytes - self.kv_bytes

    def check(self) -> None:
        """Raise InvariantError unless terms and KV cache add up to the requested memory."""
        if self.kv_basis != "given" and self.taken_bytes + self.kv_bytes != self.requested_bytes:
            raise InvariantError(
                f"terms and {self.kv_bytes} bytes of KV are not what was requested"
            )
        if any(term.size_bytes < 0 for term in self.terms):
            raise InvariantError("a term gives memory instead of taking it")


def requested_bytes(total_bytes: int, utilization: float) -> int:
    """Return what vLLM takes for itself: `ceil(total * gpu_memory_utilization)`.

    Raises:
        InputError: not a share above 0, up to 1.
    """
    if not (math.isfinite(utilization) and 0.0 < utilization <= 1.0):
        raise InputError(
            "a share of the device's memory",
            field="gpu_memory_utilization",
            value=utilization,
            remedy="give a number above 0, up to 1",
        )
    return math.ceil(total_bytes * utilization)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Memory to leave free because the allocator cannot use all that it reserves.

    Attributes:
        published_bytes: as PR #37428 defines it; None without a measured figure.
        published_how: its formula with the numbers; published_basis: of the measured figure.
        own_bytes: from a replayed load's survival capacity, or its stuck bytes; None without one.
        own_how: where it is from; own_basis: `measured` where a snapshot was replayed for it.
        stuck_bytes: the most that the load left stuck at once; None where not known.
        survival_bytes, allocated_bytes: the smallest capacity on which it ran, and its peak of
            allocated bytes; None where not known.
    """

    published_bytes: int | None = None
    published_how: str = ""
    published_basis: Basis = "given"
    own_bytes: int | None = None
    own_how: str = ""
    own_basis: Basis = "given"
    stuck_bytes: int | None = None
    survival_bytes: int | None = None
    allocated_bytes: int | None = None

    @property
    def recommended_bytes(self) -> int:
        """Ours where a replay says something, else the published one, else none."""
        for found in (self.own_bytes, self.published_bytes):
            if found is not None:
                return found
        return 0

    @classmethod
    def of(
        cls,
        *,
        measured_bytes: int | None = None,
        factor: float = 1.0,
        stuck_bytes: int | None = None,
        survival_bytes: int | None = None,
        allocated_bytes: int | None = None,
    ) -> Buffers:
        """Return both buffers, from the figures that there are.

        Args:
            measured_bytes: reserved less allocated bytes at the peak of profiling.
            factor: the published formula's factor.
            stuck_bytes: free bytes in segments that live blocks pin, at the worst moment of a load.
            survival_bytes: the smallest capacity on which the load replays without running out.
            allocated_bytes: the load's peak of allocated bytes, which goes with it.

        Raises:
            InputError: a factor below 0, or one of two figures that only make sense together.
        """
        published = how = None
        if not (math.isfinite(factor) and 0 <= factor <= 100):
            raise InputError(
                "a factor from 0 to 100 is expected", field="fragmentation_factor", value=factor
            )
        if measured_bytes is not None:
            published = max(LEAST_BUFFER_BYTES, math.ceil(measured_bytes * factor))
            how = f"max(150 MiB, measured * {factor:g}) of vLLM's PR #37428"
        if (survival_bytes is None) != (allocated_bytes is None):
            raise InputError(
                "the survival capacity of a load says something beside its allocated peak only",
                field="survival_capacity",
                remedy="give both, --survival-capacity and --allocated-peak",
            )
        own, own_how = stuck_bytes, "stuck bytes of the replayed load"
        if survival_bytes is not None and allocated_bytes is not None:
            own = max(0, survival_bytes - allocated_bytes)
            own_how = "survival capacity less the allocated peak of the replayed load"
        return cls(
            published_bytes=published,
            published_how=how or "",
            own_bytes=own,
            own_how=own_how if own is not None else "",
            stuck_bytes=stuck_bytes,
            survival_bytes=survival_bytes,
            allocated_bytes=allocated_bytes,
        )
