"""The allocator's state as arrays that compiled code reads and writes.

Owns: names, dtypes, codes. Leaves to others: the rules (`_malloc_kernel`, `_free_kernel`,
`_release_kernel`, `_expandable_kernel`), the first state (`build`).

A node is a block: a piece of a segment that is free, allocated, or waits for another stream; or a
piece of an expandable segment's address space with no memory behind it (UNMAPPED). Nodes of one
segment are linked in address order without gaps. A free one is in the search tree of its *shelf*:
the blocks of one memory pool, of one size class (small or large) and one stream; there are two
shelves per pool and stream. The trees are those of `kvatlas.storage.arena`, which is why a block's
address is called `offset` here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.records import Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

NONE = -1
"""No node."""
GROW = -2
"""Not enough unused nodes: make more and go on from here."""

UNUSED, FREE, HELD, PENDING, UNMAPPED = range(5)
"""States of a node. PENDING: freed, but in use by another stream."""

NODE = record_dtype(
    offset="i8",  # address
    length="i8",  # bytes
    asked="i8",  # bytes that the program wanted, last time
    rank="i8",  # heap order in the trees, drawn once per node
    aged="i8",  # calls of its size class when it became free
    before="i4",  # neighbours by address in the segment
    after="i4",  # also the next unused node
    left="i4",  # children in a tree
    right="i4",  # also the next unmapped node of the shelf
    state="i4",
    shelf="i4",
    space="i4",  # the expandable segment it lies in, NONE without
    owner="i4",  # the allocation that holds it, NONE without
)
SHELF = record_dtype(
    exponents="i8",  # of its trees, see the arena's INFO
    pool="i8",  # index of the memory pool; 0 is the one that everybody uses
    stream="i8",  # index of the stream
    small="i8",  # 1: requests of up to 1 MiB
    age="i8",  # index into `calls`: pool and size class, all streams
    unmapped="i8",  # first unmapped node by address, NONE without
)
SPACE = record_dtype(
    origin="i8",  # first address
    length="i8",  # bytes of addresses
    page="i8",  # memory comes in such pieces
    live="i8",  # 0: given back
)
RULES = record_dtype(
    max_split="i8",  # 2**62 without
    rounding="i8",
    large_segment="i8",
    expandable="i8",
    threshold="f8",  # of garbage collection
    allowed="i8",  # bytes that the memory fraction allows, 2**62 without a fraction
    fraction="i8",  # 1: there is one
    capacity="i8",  # bytes that the driver can give, 2**62 without a limit
    space_length="i8",  # address space of an expandable segment
)
TOTALS = record_dtype(
    unused="i8",  # first unused node
    num_unused="i8",
    num_nodes="i8",  # in use
    next_address="i8",  # where the driver puts the next segment, when no recording says
    num_spaces="i8",
    reserved="i8",  # bytes from the driver
    allocated="i8",  # in HELD blocks
    active="i8",  # in HELD and PENDING blocks
    asked="i8",  # requested bytes of active blocks
    releasable="i8",  # in free segments and free pages of the common pool
    idle="i8",  # free in private pools, whose segments are not released
    pending="i8",  # PENDING blocks
    peak_reserved="i8",
    peak_allocated="i8",
    peak_active="i8",
    peak_asked="i8",
    peak_stuck="i8",
    stuck_at_peak="i8",  # stuck and releasable bytes when reserved was at its peak
    releasable_at_peak="i8",
    retries="i8",  # segments asked for again after everything cached was released
    segments="i8",  # segments (or runs of pages) got from the driver
    releases="i8",  # and given back
    collected="i8",  # of these, by garbage collection
)
COURSE = record_dtype(
    at="i8",  # the next operation
    ran_out_at="i8",  # the operation that memory did not suffice for, NONE so far
    refused="i8",  # what it asked for, in bytes
    survived="i8",  # recorded failures that would not have been any
    addresses="i8",  # allocations at the recorded address
    differing="i8",  # everything that the recording has otherwise
    first_difference="i8",  # the operation of the first one, NONE without
    mapped="i8",  # the block that grew since the last allocation, NONE without
    released="i8",  # 1: memory was given back since the last allocation
    waiting="i8",  # recorded segments that no allocation has taken yet
    begun="i8",  # 1: something was allocated
)


class Twin(NamedTuple):
    """The state of one device's allocator."""

    nodes: Records  # (n,) NODE
    shelves: Records  # (s,) SHELF; 2 k is the small one, 2 k + 1 the large one of pool and stream k
    roots: I32  # (s, trees) of the search trees
    subs: I64  # (s, EXPONENTS)
    calls: I64  # (pools * 2,) searches, per pool and size class
    spaces: Records  # (m,) SPACE
    rules: Records  # (1,) RULES
    divisions: I64  # (16,) of the roundup table
    totals: Records  # (1,) TOTALS


class Operations(NamedTuple):
    """What happens, in order. (n,) each."""

    code: U8
    subject: I32  # allocation or segment, by number
    nbytes: I64  # asked for, or a segment's size
    shelf: I32  # the small one of its pool and stream
    address: I64  # as recorded


(
    NOTHING,
    ALLOCATE,
    REQUEST_FREE,
    COMPLETE_FREE,
    GET_SEGMENT,
    GIVE_SEGMENT,
    MAP,
    UNMAP,
    OUT_OF_MEMORY,
    EMPTY_CACHE,
) = range(10)
"""Codes of operations."""

UNLIMITED = 1 << 62
MIB = 1 << 20
SMALLEST = 512
"""Sizes are multiples of it."""
SMALL_SIZE = MIB
"""The largest request of the small pools."""
SMALL_SEGMENT = 2 * MIB
LARGE_STEP = 2 * MIB
LARGEST_SHARED = 10 * MIB
"""Requests below it get a segment that others may share."""
