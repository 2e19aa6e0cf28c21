"""The state of a tier below the device: arrays in NamedTuples that a kernel takes as one argument.

Owns: names, shapes and dtypes of everything a tier changes. Leaves to others: the rules that change
it (`_store_kernel`, the engine's `tiering`) and its first state (`build`).

A *slot* is one place of the tier, as large as a block. A *content* is named by its key, the number
of a whole prefix. Sizes: C slots, T places of an index (a power of two, at least 2 C), N blocks of
the device, W blocks of a block table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.eviction._state_kernel import Eviction
from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NONE = -1
"""No slot, no key."""

# When blocks are written to the tier.
ON_EVICTION, ON_FREE, ON_PREEMPTION = range(3)
# Whether blocks are brought back rather than computed again.
BY_COST, ALWAYS, NEVER = range(3)
# Directions of a move.
OUT, IN = range(2)

SLOT = record_dtype(
    older="i4",  # neighbours in the ring of unpinned slots; an empty slot's `newer` is the next one
    newer="i4",
    pins="i4",  # who needs it now: it is not evicted
    depth="i4",  # the position of its content in its path
    before="i4",  # neighbours among the slots that wait for the same content above, NONE at an end
    behind="i4",
    waits="i1",  # 1 while it is among them
)
STORE_INFO = record_dtype(
    capacity="i8",
    used="i8",  # slots that hold a content
    pinned="i8",
    fresh="i8",  # slots from here on have never been used
    empty="i8",  # 1 + the first of the emptied slots, 0 for none
    inserts="i8",
    evictions="i8",
    refusals="i8",  # contents that found every slot pinned
    by_leaf="i8",
)
TIER_INFO = record_dtype(
    write_back="i8",
    swap="i8",
    found="i8",  # slots that the request at the queue's head would get back
    step_in="i8",  # blocks brought back in this step
    step_out="i8",  # blocks written in this step
    step_early="i8",  # blocks brought back in this step for requests that still wait
    restored="i8",  # blocks brought back
    written="i8",
    kept="i8",  # blocks that were to be written and were there already
    saved_at_preemption="i8",  # part of `written`
    swapped="i8",  # preempted requests whose blocks were written
    recomputed="i8",  # preempted requests that were left to computing again
    moves="i8",  # rows of `Tier.moves` in use
    lost_moves="i8",  # moves that found no row
    ms_per_block="f8",  # how long a block is under way, one direction
    ms_per_token="f8",  # how long a token takes to compute again
    moving_ms="f8",  # time that steps waited for blocks
)


class Store(NamedTuple):
    """Which content lies in which slot: 44 bytes per slot, and 8 to 16 for the index."""

    keys: I64  # (C,) what each slot holds
    above: I64  # (C,) or (1,): the content that each hangs from, NONE for none
    slots: Records  # (C + 1,) SLOT; the last is the ring's sentinel
    places: I32  # (T,) 1 + slot, by key; 0 = empty
    orphans: I32  # (T,) or (1,): 1 + the first slot that waits for a content above, by that key
    eviction: Eviction | None  # the policy that chooses what is evicted, None for LRU
    info: Record  # STORE_INFO


class Tier(NamedTuple):
    """A store and what an engine needs to use it."""

    store: Store
    found: I32  # (W,) slots of the request at the queue's head
    above: I64  # (N,) or (1,): what each block's content hangs from, for a policy
    depth: I32  # (N,) or (1,)
    moves: I32  # (M, 3) direction, block, slot, in order, while somebody carries them out
    info: Record  # TIER_INFO
