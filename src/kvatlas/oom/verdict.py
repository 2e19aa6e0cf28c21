"""What an explanation of an out-of-memory error consists of.

Owns: the causes, the ladder of what would have been enough, remedies and what each costs. Leaves to
others: finding them (`message_verdict`, `refusal_verdict`, `snapshot_verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CAUSES",
    "DRIVERS_OWN",
    "RUNGS",
    "Basis",
    "Cause",
    "OomVerdict",
    "Remedy",
    "Step",
    "cause_of_rung",
    "ladder",
]

Cause = Literal[
    "fragmentation",
    "private-pools",
    "other-processes",
    "capacity",
    "memory-fraction",
    "driver-refused",
    "busy-device",
    "no-kv-cache",
    "length",
    "too-many-requests",
    "memory-moved",
    "outside-pytorch",
    "host-memory",
    "request-size",
    "unseen",
    "none",
]
CAUSES: dict[Cause, str] = {
    "fragmentation": "Fragmentation",
    "private-pools": "Private memory pools",
    "other-processes": "Other processes",
    "capacity": "Too little memory",
    "memory-fraction": "The process's own memory limit",
    "driver-refused": "Refused with memory free",
    "busy-device": "The device is not free",
    "no-kv-cache": "Nothing is left for the KV cache",
    "length": "One request does not fit",
    "too-many-requests": "Too many requests at once",
    "memory-moved": "Memory changed hands during profiling",
    "outside-pytorch": "Outside PyTorch's allocator",
    "host-memory": "Host memory",
    "request-size": "An impossible request",
    "unseen": "No failure in this recording",
    "none": "It does not fail",
}
"""Every cause and its title."""

Basis = Literal["replayed", "arithmetic", "vLLM's figure", "advice"]


DRIVERS_OWN = 16 << 20
"""The driver does not give away the last MiB of a device."""
RUNGS = {
    "releasable": "free, not released",
    "stuck": "free, but pinned by live blocks",
    "idle": "free in private pools",
    "others": "held by others",
}
"""What could have been enough beyond what was free, by what one would have to undo for it."""
_CAUSE_OF_RUNG: dict[str, Cause] = {
    RUNGS["releasable"]: "fragmentation",
    RUNGS["stuck"]: "fragmentation",
    RUNGS["idle"]: "private-pools",
    RUNGS["others"]: "other-processes",
}


def cause_of_rung(name: str) -> Cause:
    """Return the cause when this rung is the first that suffices."""
    return _CAUSE_OF_RUNG[name]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the ladder: with these bytes too, would the request have been served?

    Attributes:
        name: what they are. size_bytes: how many; None: not known.
        sum_bytes: with all steps before; suffices: whether that is enough, None where two printed
            decimals cannot tell.
    """

    name: str
    size_bytes: int | None
    sum_bytes: int
    suffices: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Something to change.

    Attributes:
        text: the sentence. setting: what to type, empty where there is nothing to type.
        basis: `replayed`: the recorded requests ran under it; `arithmetic`: from the figures;
            `vLLM's figure`; `advice`: not checked.
        kv_bytes: what the KV cache gives up for it. kv_blocks: the same in blocks, rounded up; None
            where a block's bytes are not known.
    """

    text: str
    setting: str = ""
    basis: Basis = "arithmetic"
    kv_bytes: int = 0
    kv_blocks: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OomVerdict:
    """The answer.

    Attributes:
        cause: the first thing without which it would not have failed.
        line: the sentence. reasons: what it rests on.
        steps: the ladder of what would have been enough; empty where there are no figures.
        remedies: the best first.
        notes: what a reader must know. unverified: what rests on rules no recording has verified.
    """

    cause: Cause
    line: str
    reasons: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The cause in words."""
        return CAUSES[self.cause]

    @property
    def remedy(self) -> Remedy | None:
        """The one to try first."""
        return self.remedies[0] if self.remedies else None


def ladder(
    asked: int, rungs: tuple[tuple[str, int | None], ...], slack: int = 0
) -> tuple[tuple[Step, ...], int | None]:
    """Return the steps, and the number of the first that suffices; None when all do not.

    `rungs`: (name, bytes or None) in order; `slack`: how far the comparison may be off.
    """
    steps, total, first = [], 0, None
    for at, (name, size) in enumerate(rungs):
        total += size or 0
        spare = total - asked
        suffices = None if abs(spare) < slack else spare >= 0
        if size is None and not suffices:
            suffices = None
        steps.append(Step(name, size, total, suffices))
        if first is None and (suffices or (suffices is None and spare >= 0)):
            first = at
    return tuple(steps), first
