"""The ranges that an arena is cut into, as arrays that compiled code reads and writes.

Owns: names and dtypes. Leaves to others: the rules (`_ranges_kernel`, `_tree_kernel`,
`_shelves_kernel`) and the first state (`build`). Nothing of it lies in the memory it speaks of,
which may be on a device.

A node is a maximal free range, a held one, or a held one that lies on a shelf; nodes follow each
other in address order without gaps (`before`, `after`). Free ones are also in a search tree by
(length, offset), one tree for each sixteenth of a doubling of the length, so that trees stay small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.records import Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NONE = -1
"""No node."""
GROW = -2
"""Not enough unused nodes: make more and ask again."""

UNUSED, FREE, HELD, SHELVED = range(4)
"""States of a node. SHELVED is held by a size class and handed to nobody."""

SUB_BITS = 4
SUBS = 1 << SUB_BITS
"""Trees per doubling of the length."""
EXPONENTS = 53
"""Lengths are below 2**53, so that a float holds them exactly."""
MOST_TAKEN = 3
"""Unused nodes that one call may need: the padding before, the rest behind, one to spare."""

NODE = record_dtype(
    offset="i8",  # bytes from the beginning of the buffer
    length="i8",  # bytes, a multiple of the granule
    asked="i8",  # bytes that the user wanted, 0 unless HELD by one
    align="i8",  # what the address is a multiple of, of a held one
    rank="i8",  # heap order in the trees, drawn once per node
    turn="i8",  # counts what the node was handed out for, so that an old handle is noticed
    before="i4",  # neighbours by address
    after="i4",  # also the next unused node
    left="i4",  # children in a tree
    right="i4",
    state="i4",
    shelf="i4",  # size class, NONE without
    below="i4",  # the next one on its shelf
)
INFO = record_dtype(
    address="i8",  # address of the buffer's first byte
    origin="i8",  # offset of the first byte in use: address + origin is a multiple of the granule
    capacity="i8",  # bytes in use from there, a multiple of the granule
    granule="i8",
    first="i8",  # the node at the lowest address
    unused="i8",  # the first unused node
    num_unused="i8",
    exponents="i8",  # bit e: a tree of lengths 2**e <= length < 2**(e + 1) is not empty
    free_bytes="i8",
    free_ranges="i8",
    held_bytes="i8",  # in held nodes, shelved ones too
    shelved_bytes="i8",
    asked_bytes="i8",
    live="i8",  # allocations that users hold
    allocations="i8",  # so far
    frees="i8",
    failures="i8",  # requests that did not fit when they were looked for
    split_failures="i8",  # of these, while that many bytes were free, only not in one piece
    peak_held_bytes="i8",
    peak_asked_bytes="i8",
)


class Arena(NamedTuple):
    """The state of one arena."""

    nodes: Records  # (n,) NODE
    roots: I32  # (EXPONENTS * SUBS,) of the trees
    subs: I64  # (EXPONENTS,) bit s: tree s of this doubling is not empty
    info: Records  # (1,) INFO; unlike a record, Numba takes it in no time


SHELF = record_dtype(
    length="i8",  # bytes of its ranges
    top="i8",  # the range that goes next
    cached="i8",  # ranges that lie here
    low="i8",  # the fewest that lay here since the last look
    batch="i8",  # ranges that the next refill takes
    most="i8",  # the largest batch
    hits="i8",  # requests served from here
    misses="i8",  # requests that found it empty
    recent="i8",  # of these, since the last look
    refilled="i8",  # ranges taken from the arena
    returned="i8",  # ranges given back to the arena
    live="i8",  # ranges that users hold
)
COURSE = record_dtype(
    interval="i8",  # operations between two looks at the shelves
    until="i8",  # operations until the next one
    looks="i8",
    direct="i8",  # requests larger than the largest class
    flushes="i8",  # times that everything was given back because something did not fit
)


class Shelves(NamedTuple):
    """The size classes of one pool."""

    shelves: Records  # (classes,) SHELF, lengths ascending
    course: Records  # (1,) COURSE
