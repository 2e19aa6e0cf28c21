"""The manager's calls of a recorded server, one value each, in the order in which they happened.

Owns: the shapes. Leaves to others: reading them from a recording (the decoder beside this file),
holding them against the twin (`kvatlas.engine.verifying`).

A `row` is the recording's number of a request, the `request` of its events. Tokens are counted as
vLLM counts them; times are milliseconds since the engine's start; hashes are vLLM's own, 32 bytes
each, chained over the whole prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Allocated",
    "Arrived",
    "Cached",
    "Call",
    "Effect",
    "EffectKind",
    "Evicted",
    "Finished",
    "Freed",
    "FreedLater",
    "Hashed",
    "LookedUp",
    "PoppedForFree",
    "Preempted",
    "Reset",
    "Sampled",
    "StepBegan",
    "StepEnded",
]

EffectKind = Literal["allocated", "touched", "evicted", "cached", "freed"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one call of the pool did, in the pool's own order.

    Attributes:
        group: the KV cache group, -1 where the pool was not told.
        blocks: ids; those of `freed` in the order in which they were given back.
        keys: their hashes, one a block, where content was cached or evicted; else None.
    """

    kind: EffectKind
    group: int
    blocks: tuple[int, ...]
    keys: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request came to the scheduler, with the hashes of its prompt's full hash blocks."""

    row: int
    name: str
    time_ms: float
    prompt_tokens: int
    max_tokens: int
    priority: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Hashed:
    """More of a request's hashes: hash blocks `first`, `first + 1`, ..."""

    row: int
    first: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StepBegan:
    """`Scheduler.schedule` began."""

    step: int
    time_ms: float


@dataclass(frozen=True, slots=True)
class LookedUp:
    """`KVCacheManager.get_computed_blocks`: of `num_tokens` tokens so many are cached."""

    row: int
    num_tokens: int
    hit_tokens: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """`KVCacheManager.allocate_slots`, also one that was refused (not `served`).

    Attributes:
        new_tokens, hit_tokens: what it was asked for; hits are 0 for a running request.
        full_sequence_must_fit, has_scheduled: what it was told (`has_scheduled_reqs`).
        lookahead: `num_lookahead_tokens`.
        effects: what the pool did.
    """

    row: int
    new_tokens: int
    hit_tokens: int
    served: bool
    full_sequence_must_fit: bool
    has_scheduled: bool
    lookahead: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Cached:
    """`KVCacheManager.cache_blocks` outside of `allocate_slots` (asynchronous scheduling)."""

    row: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Preempted:
    """The scheduler took a running request off; its `Freed` tells of the blocks."""

    row: int


@dataclass(frozen=True, slots=True)
class Freed:
    """`KVCacheManager.free`."""

    row: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A request ended, with vLLM's name of its status and its tokens, prompt and output."""

    row: int
    status: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class PoppedForFree:
    """`KVCacheManager.pop_blocks_for_free`: a request's blocks, to be freed later."""

    row: int


@dataclass(frozen=True, slots=True)
class FreedLater:
    """The pool freed blocks outside of any request's call: those of popped requests."""

    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """`reset_prefix_cache`, and whether it was `done` (it is refused while blocks are in use)."""

    done: bool


@dataclass(frozen=True, slots=True)
class Evicted:
    """`evict_blocks`: content dropped from outside."""

    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class StepEnded:
    """`Scheduler.schedule` returned.

    Attributes:
        tokens: scheduled in all.
        running, waiting: requests in the two queues now.
        free_blocks: in the free queue, evictable ones included.
        cached_keys: distinct (hash, group) pairs in the prefix cache.
        rows, new_tokens: who was scheduled with how many tokens, in scheduled order.
    """

    step: int
    tokens: int
    running: int
    waiting: int
    free_blocks: int
    cached_keys: int
    rows: tuple[int, ...]
    new_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """`Scheduler.update_from_output` of a step: who got how many tokens."""

    step: int
    time_ms: float
    rows: tuple[int, ...]
    counts: tuple[int, ...]


Call = (
    Arrived
    | Hashed
    | StepBegan
    | LookedUp
    | Allocated
    | Cached
    | Preempted
    | Freed
    | Finished
    | PoppedForFree
    | FreedLater
    | Reset
    | Evicted
    | StepEnded
    | Sampled
)
