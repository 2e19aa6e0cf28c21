"""The rungs of the ladder, and the record of who took which.

Owns: their names and counts, and what a tier below must offer. Leaves to others: when a rung is
taken (`oom_handler`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

__all__ = ["LadderStats", "Record", "Rung", "RungTaken", "Swap"]

Rung = Literal["evict", "swap", "defragment", "preempt", "refuse"]
"""From the cheapest to the last resort."""


class Swap(Protocol):
    """A tier below the device that keeps blocks by content, as `kvatlas.tiers.SwapManager` does."""

    def swap_out(self, keys: Sequence[int], block_ids: Sequence[int]) -> int:
        """Copy blocks to the tier; return how many of the keys it holds now."""
        ...

    def lookup(self, keys: Sequence[int]) -> int:
        """Return how many leading keys the tier holds."""
        ...

    def swap_in(self, keys: Sequence[int], block_ids: Sequence[int]) -> None:
        """Copy the contents of keys that `lookup` found into blocks."""
        ...

    def clear(self) -> object:
        """Forget everything."""
        ...


@dataclass(frozen=True, slots=True)
class RungTaken:
    """One step on the ladder.

    Attributes:
        rung: which.
        request_id: who lost blocks by it, was moved or refused; None for cached content of nobody.
        needy: who needed the room.
        blocks: evicted, written to the tier, moved, given back, or asked for in vain.
    """

    rung: Rung
    request_id: str | None
    needy: str
    blocks: int


@dataclass(frozen=True, slots=True)
class LadderStats:
    """How often each rung was taken, and what it moved.

    Attributes:
        evictions, evicted_blocks: allocations that cost cached content, and how much.
        swaps, swapped_blocks: requests whose blocks went to the tier, and the blocks it took.
        restored_blocks: blocks brought back at admissions.
        defragmentations, moved_blocks: tables made one run, and blocks copied for it.
        preemptions: requests that lost their blocks with nothing saved: they compute again.
        lost_tokens: computed tokens that preempted requests, swapped or not, gave up on the device.
        waits: admissions that found no room now.
        refusals: requests that can never fit.
    """

    evictions: int = 0
    evicted_blocks: int = 0
    swaps: int = 0
    swapped_blocks: int = 0
    restored_blocks: int = 0
    defragmentations: int = 0
    moved_blocks: int = 0
    preemptions: int = 0
    lost_tokens: int = 0
    waits: int = 0
    refusals: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


class Record:
    """Counts, and the last `length` steps."""

    def __init__(self, length: int) -> None:
        self.stats = LadderStats()
        self.taken: deque[RungTaken] = deque(maxlen=length)

    def note(self, rung: Rung, request_id: str | None, needy: str, blocks: int) -> None:
        """Write down that `rung` was taken."""
        self.taken.append(RungTaken(rung, request_id, needy, blocks))

    def add(self, **more: int) -> None:
        """Add to the counts named."""
        counts = {name: getattr(self.stats, name) + by for name, by in more.items()}
        self.stats = replace(self.stats, **counts)
