"""Arrays for an arena and its size classes: their sizes, their first state, more of them.

Owns: the first state of every array, and which size classes there are. Leaves to others: all later
changes (`_ranges_kernel`, `_shelves_kernel`).
"""

from __future__ import annotations

import numpy as np

from kvatlas.records import Records, records
from kvatlas.storage.arena._shelves_kernel import MOST_BATCH
from kvatlas.storage.arena._state_kernel import (
    COURSE,
    EXPONENTS,
    FREE,
    I64,
    INFO,
    NODE,
    NONE,
    SHELF,
    SUBS,
    Arena,
    Shelves,
)

__all__ = ["class_lengths", "grown", "make_arena", "make_shelves"]

_FIRST_NODES = 1024
_STEPS = 4
"""Classes per doubling: a range is at most a fifth larger than the request, as in jemalloc."""


def make_arena(*, base: int, nbytes: int, granule: int) -> Arena:
    """Return an arena of one free range over the `nbytes` from address `base`; 90 KiB of books.

    Both ends are cut to multiples of the granule; `nbytes` must hold at least one.
    """
    origin = -base % granule
    capacity = (nbytes - origin) // granule * granule
    arena = Arena(
        nodes=_fresh(0, _FIRST_NODES),
        roots=np.full(EXPONENTS * SUBS, NONE, np.int32),
        subs=np.zeros(EXPONENTS, np.int64),
        info=records(1, INFO),
    )
    info, first = arena.info[0], arena.nodes[0]
    info.address, info.origin, info.capacity, info.granule = base, origin, capacity, granule
    info.free_bytes, info.free_ranges = capacity, 1
    info.unused, info.num_unused = 1, _FIRST_NODES - 1
    first.offset, first.length = origin, capacity
    first.before = first.after = first.left = first.right = NONE
    first.state = FREE
    exponent = capacity.bit_length() - 1
    sub = (capacity << 4 >> exponent) & (SUBS - 1)
    arena.roots[exponent * SUBS + sub] = 0
    arena.subs[exponent] = 1 << sub
    info.exponents = 1 << exponent
    return arena


def grown(arena: Arena) -> Arena:
    """Return the arena with twice as many nodes; O(nodes), amortised O(1) per allocation."""
    count = arena.nodes.shape[0]
    nodes = records(2 * count, NODE)
    nodes[:count] = arena.nodes
    nodes[count:] = _fresh(count, count)
    nodes[2 * count - 1].after = arena.info[0].unused
    arena.info[0].unused = count
    arena.info[0].num_unused += count
    return arena._replace(nodes=nodes)


def _fresh(start: int, count: int) -> Records:
    """Return unused nodes, each linked to the next, with ranks that look random."""
    nodes = records(count, NODE)
    numbers = np.arange(start, start + count, dtype=np.uint64)
    with np.errstate(over="ignore"):  # splitmix64 (Steele, Lea and Flood, OOPSLA 2014)
        mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    nodes["rank"] = (mixed >> np.uint64(1)).astype(np.int64)
    nodes["shelf"] = nodes["below"] = NONE
    nodes["after"] = np.arange(start + 1, start + count + 1)
    nodes[count - 1].after = NONE
    return nodes


def class_lengths(granule: int, largest: int) -> I64:
    """Return the lengths of the classes up to `largest` bytes: four to every doubling."""
    lengths, step = [], granule
    at = granule
    while at <= largest:
        lengths.append(at)
        if at == 2 * _STEPS * step:
            step *= 2
        at += step
    return np.array(lengths, np.int64)


def make_shelves(lengths: I64, *, refill_bytes: int, interval: int) -> Shelves:
    """Return empty shelves; a refill takes at most `refill_bytes` and 64 ranges."""
    shelves = records(lengths.size, SHELF)
    shelves["length"] = lengths
    shelves["top"] = NONE
    shelves["batch"] = 1
    shelves["most"] = np.clip(refill_bytes // lengths, 1, MOST_BATCH)
    course = records(1, COURSE)
    course["interval"] = course["until"] = interval
    return Shelves(shelves, course)
