"""The numbers of a moment, part by part.

Owns: how the recorder is, the pool, waste, runs, the cache, requests and rates, with their units.
Leaves to others: the moment as a whole (`moment`), where the numbers come from (`gauges`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Evictions",
    "Failures",
    "FreeRuns",
    "Health",
    "Playback",
    "Pool",
    "Prefix",
    "Rates",
    "Requests",
    "State",
    "Waste",
]

State = Literal["live", "quiet", "ended", "cut off", "playing"]
"""`live`: events come; `quiet`: the engine is there, but idle; `ended`: closed properly;
`cut off`: it died, or its recording ends in the middle; `playing`: a finished recording."""


class Health(msgspec.Struct, frozen=True):
    """How well the recorder and the reader keep up.

    Attributes:
        state: see `State`.
        lost_events, lost_segments: recorded, or meant to be, and gone for good.
        errors: raised inside the recorder's hooks, which vLLM never sees; `last_error`: the newest.
        bytes_on_disk, bytes_bound: of the recording; None where there is no bound.
        age_s: since the last event, seconds; None where no clock runs (a recording at rest).
        lag_events: recorded and not yet read, 0 when up to date.
        partial: why the recording is only a part, "" when it is whole.
        fault: why reading it stopped, "" while all is well.
    """

    state: State = "quiet"
    lost_events: int = 0
    lost_segments: int = 0
    errors: int = 0
    last_error: str = ""
    bytes_on_disk: int = 0
    bytes_bound: int | None = None
    age_s: float | None = None
    lag_events: int = 0
    partial: str = ""
    fault: str = ""


class Playback(msgspec.Struct, frozen=True):
    """Where a finished recording is being played.

    Attributes:
        paused: whether it stands still.
        speed: times its own clock; 0 is as fast as it goes.
        position_s, first_s, last_s: on the engine's clock.
    """

    paused: bool
    speed: float
    position_s: float
    first_s: float
    last_s: float


class Pool(msgspec.Struct, frozen=True):
    """Blocks by state, and slots.

    Attributes:
        total_blocks: less the null block; used + evictable + empty.
        used_blocks: owned; `evictable_blocks`: free, still cached; `empty_blocks`: free, not.
        free_blocks: evictable + empty.
        usage: used / total, vLLM's `kv_cache_usage`; `resident`: (used + evictable) / total.
        total_slots: of the whole pool; None where groups' blocks differ in slots, or have none.
        held_slots: of used blocks; `live_slots`: those that hold a token. Both after the last step.
        slot_usage: live / total slots: the true occupancy.
        bytes: of the whole pool, None where page sizes are not recorded.
    """

    total_blocks: int
    used_blocks: int
    evictable_blocks: int
    empty_blocks: int
    free_blocks: int
    usage: float
    resident: float
    total_slots: int | None
    held_slots: int | None
    live_slots: int | None
    slot_usage: float | None
    bytes: int | None


class Waste(msgspec.Struct, frozen=True):
    """Slots of used blocks that hold no token, each shared block counted once.

    Attributes:
        wasted_slots: after the last step.
        internal: wasted / held slots, after the last step.
        internal_time_weighted: the same over the run so far; `internal_60s`: over 60 s.
    """

    wasted_slots: int | None
    internal: float | None
    internal_time_weighted: float | None
    internal_60s: float | None


class FreeRuns(msgspec.Struct, frozen=True):
    """Maximal runs of consecutive free ids. In a pool of equal blocks they fail no allocation.

    Attributes:
        blocks: in all runs; `count`: runs; `mean`, `p50`, `p99`, `largest`: lengths, blocks.
        efi: 1 - largest / blocks; None without a free block.
    """

    blocks: int
    count: int
    mean: float | None
    p50: int
    p99: int
    largest: int
    efi: float | None


class Prefix(msgspec.Struct, frozen=True):
    """Prompt tokens asked of the prefix cache at first admissions, and found.

    Attributes:
        queries, hits: tokens so far; `queries_60s`, `hits_60s`: over the last 60 s.
        token_hit_rate, token_hit_rate_60s: hits / queries.
        resumed_queries, resumed_hits: the same at admissions after a preemption.
    """

    queries: int
    hits: int
    token_hit_rate: float | None
    queries_60s: int
    hits_60s: int
    token_hit_rate_60s: float | None
    resumed_queries: int
    resumed_hits: int


class Evictions(msgspec.Struct, frozen=True):
    """Cached blocks that lost their content, by what for.

    Attributes:
        total: all of them; `prefill`, `decode`: taken for an allocation in that phase; `explicit`:
            on demand; `replaced`: another block took the key over.
        premature: content that was asked for again; `never_asked`: not so far; None where no
            full-attention group tells.
        forgotten: blocks forgotten by resets of the cache; `resets`: how many.
    """

    total: int
    prefill: int
    decode: int
    explicit: int
    replaced: int
    premature: int | None
    never_asked: int | None
    resets: int
    forgotten: int


class Failures(msgspec.Struct, frozen=True):
    """`allocate_slots` refused: attempts, one per step and request."""

    total: int
    admission: int
    prefill: int
    decode: int


class Requests(msgspec.Struct, frozen=True):
    """Requests: `running` and `waiting` now, the others so far.

    `aborted` and `set_aside` (never to be served) are part of `finished`.
    """

    running: int
    waiting: int
    arrived: int
    admitted: int
    resumed: int
    preemptions: int
    finished: int
    aborted: int
    set_aside: int


class Rates(msgspec.Struct, frozen=True):
    """Per second of the engine's clock over the last `window_s`; None before any time passed."""

    window_s: float
    tokens_per_s: float | None
    steps_per_s: float | None
    arrivals_per_s: float | None
    finished_per_s: float | None
    preemptions_per_s: float | None
    evictions_per_s: float | None
