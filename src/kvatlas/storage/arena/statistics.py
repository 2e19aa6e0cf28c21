"""What is known of an arena at a moment, in bytes.

Owns: the figures and their formulas. Leaves to others: counting (`_ranges_kernel`,
`_shelves_kernel`).

The ledger is the one of device allocators: reserved >= allocated >= requested. What lies between
the last two is internal waste (rounding to the granule and to a size class); what lies between the
first two is kept by size classes for the next request.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.storage.arena._ranges_kernel import longest_free
from kvatlas.storage.arena._state_kernel import Arena

__all__ = ["ArenaStatistics", "ClassStatistics", "arena_statistics"]


@dataclass(frozen=True, slots=True)
class ArenaStatistics:
    """One moment of an arena, and its counts so far.

    Attributes:
        capacity_bytes: what can be handed out at most.
        reserved_bytes: not free: allocated, or kept by size classes.
        allocated_bytes: held by users, rounding included; `requested_bytes`: what they asked for.
        cached_bytes: reserved by size classes and held by nobody.
        free_bytes, free_ranges, largest_free_bytes: what is free, and in which pieces.
        live: allocations held now; `allocations`, `frees`: so far.
        failures: requests that were refused, after the pressure callback if there is one.
        fragmented_failures: of these, how many found enough bytes free, only not in one piece.
        pressure_calls: how often the callback was asked; `pressure_rescues`: how often the request
            fitted then.
        peak_reserved_bytes, peak_requested_bytes: the most so far, each at its own moment.
    """

    capacity_bytes: int
    reserved_bytes: int
    allocated_bytes: int
    requested_bytes: int
    cached_bytes: int
    free_bytes: int
    free_ranges: int
    largest_free_bytes: int
    live: int
    allocations: int
    frees: int
    failures: int
    fragmented_failures: int
    pressure_calls: int
    pressure_rescues: int
    peak_reserved_bytes: int
    peak_requested_bytes: int

    @property
    def external_fragmentation(self) -> float | None:
        """1 - largest free range / free bytes; None when nothing is free."""
        return 1 - self.largest_free_bytes / self.free_bytes if self.free_bytes else None

    @property
    def internal_waste(self) -> float | None:
        """1 - requested / allocated bytes; None when nothing is allocated."""
        return 1 - self.requested_bytes / self.allocated_bytes if self.allocated_bytes else None


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """One size class.

    Attributes:
        nbytes: of each of its ranges.
        live, cached: ranges that users hold, and that wait for the next request.
        hits: requests served by a waiting range; `misses`: those that had to go to the arena.
        refilled, returned: ranges taken from the arena and given back to it.
        batch: ranges that the next refill takes.
    """

    nbytes: int
    live: int
    cached: int
    hits: int
    misses: int
    refilled: int
    returned: int
    batch: int

    @property
    def hit_rate(self) -> float | None:
        """Hits over requests of this class; None without any."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


def arena_statistics(
    arena: Arena, *, pressure_calls: int, pressure_rescues: int
) -> ArenaStatistics:
    """Return the figures of this moment; O(log n) in the free ranges."""
    info = arena.info[0]
    return ArenaStatistics(
        capacity_bytes=int(info.capacity),
        reserved_bytes=int(info.held_bytes),
        allocated_bytes=int(info.held_bytes - info.shelved_bytes),
        requested_bytes=int(info.asked_bytes),
        cached_bytes=int(info.shelved_bytes),
        free_bytes=int(info.free_bytes),
        free_ranges=int(info.free_ranges),
        largest_free_bytes=longest_free(arena),
        live=int(info.live),
        allocations=int(info.allocations),
        frees=int(info.frees),
        failures=int(info.failures),
        fragmented_failures=int(info.split_failures),
        pressure_calls=pressure_calls,
        pressure_rescues=pressure_rescues,
        peak_reserved_bytes=int(info.peak_held_bytes),
        peak_requested_bytes=int(info.peak_asked_bytes),
    )
