"""What the policies under pressure remember: `Pressure`, a member of the engine while one is on.

Owns: names and shapes of their state. Leaves to others: what each of them does (`lazy`,
`protecting`, `foresight`), and which are on (`build`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.records import Record, Records, record_dtype

LENGTH_BUCKETS = 240
"""Buckets of output lengths: 16 of one token each, then 8 to an octave up to 2**31."""

PRESSURE = record_dtype(
    step="i8",  # scheduler steps begun
    lazy_steps="i8",  # lazy deallocation: steps that a finished request's blocks stay, 0 = off
    limbo_head="i8",
    limbo_count="i8",
    lazy_kept="i8",  # requests whose blocks stayed
    lazy_hurried="i8",  # of these: given back early, because somebody needed the room
    protect="i8",  # waiting requests whose hits are kept from eviction, 0 = off
    removed="i8",  # blocks that left the free queue
    guard="i8",  # `removed` at which the protected blocks move up again
    refreshes="i8",  # lookups made to protect a request's hits
    refreshed_blocks="i8",  # blocks moved to the tail of the free queue
    prefetched="i8",  # blocks brought from the tier below for who waits
    ahead_blocks="i8",  # pre-allocation: decode blocks ahead at most, 0 = off or no such limit
    ahead_predicted="i8",  # 1: not beyond the predicted end of the output
    allocated_ahead="i8",  # blocks taken before they were needed
    growth="f8",  # admission: share of the predicted growth that must stay free, 0 = off
    held_back="i8",  # admissions refused for the predicted growth alone
    finished="i8",  # requests whose output lengths are known
)
LIMBO = record_dtype(slot="i8", due="i8")
LENGTH = record_dtype(
    longer_count="i8",  # finished requests in the buckets above
    longer_tokens="i8",  # and the tokens of their outputs
)


class Pressure(NamedTuple):
    """The state of all policies; L finished requests in limbo at most, P protected ones."""

    info: Record  # PRESSURE
    limbo: Records  # (L,) LIMBO: a ring, in the order in which the blocks come back
    watched: NDArray[np.int64]  # (P,) rows that were protected last, NONE = nobody
    wanted: NDArray[np.int64]  # (P,) working space
    lengths: Records  # (LENGTH_BUCKETS,) LENGTH
    fetched: NDArray[np.int32]  # (W,) working space; (1,) without a tier
