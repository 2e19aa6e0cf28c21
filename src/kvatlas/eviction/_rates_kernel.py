"""From counts of reuses to how often a kind of block comes back, by its age.

Owns: kinds and ages as numbers, and the index that is compared. Leaves to others: counting
(`_return_rate_kernel`).

The index of a kind at an age is the best mean rate of return over any time ahead (Gittins, 1979):
max over later ages of reuses up to there / block-requests spent waiting up to there.
"""

from __future__ import annotations

from kvatlas.eviction._state_kernel import Eviction
from kvatlas.jit import inlined, kernel

NUM_KINDS = 33
NUM_AGES = 28  # half octaves of requests
DEEPEST, SUPERSEDED = 16, 32
_LONG_ANSWER = 8
_PRIOR = 10.0  # reuses that the rate of all kinds together counts for, in each kind and age
_SHRINK = 50.0  # reuses before a kind is believed to differ from the others
_HALF_LIFE = 5000.0  # requests after which what was counted counts half


@inlined
def kind_of(uses: int, private: bool, long_answer: bool, deepest: bool) -> int:
    """Return the kind of a block at its `uses`-th use."""
    if uses <= 1:
        kind = 0 if private else 1
    elif uses < 4:
        kind = uses
    else:
        kind = 2
        while uses > 1 and kind < 7:
            uses >>= 1
            kind += 1
    return kind + (_LONG_ANSWER if long_answer else 0) + (DEEPEST if deepest else 0)


@inlined
def bucket_of(age: int) -> int:
    """Return the number of the half octave that `age` lies in."""
    if age < 2:
        return 0
    octave, rest = 0, age
    while rest >= 2:
        rest >>= 1
        octave += 1
    upper = 1 if age >= (1 << octave) + (1 << (octave - 1)) else 0
    return min(2 * octave - 1 + upper, NUM_AGES - 1)


@inlined
def _start(bucket: int) -> int:
    """Return the youngest age of a bucket."""
    if bucket == 0:
        return 0
    octave = (bucket + 1) // 2
    return (1 << octave) + (0 if bucket % 2 == 1 else 1 << (octave - 1))


@inlined
def rate_at(eviction: Eviction, kind: int, age: int) -> float:
    """Return the index of `kind` at `age`, linear between the buckets' starts."""
    bucket = bucket_of(age)
    here = eviction.learnt[kind, bucket].chance
    if bucket >= NUM_AGES - 1:
        return float(here)
    start = _start(bucket)
    share = (age - start) / (_start(bucket + 1) - start)
    return float(here * (1.0 - share) + eviction.learnt[kind, bucket + 1].chance * share)


@kernel
def refresh(eviction: Eviction) -> None:
    """Add what has waited since the last time, then make all indices; O(requests * kinds)."""
    info, learnt = eviction.info, eviction.learnt
    now, size = int(info.requests), eviction.past.shape[0]
    span = float(now - info.refreshed)
    info.refreshed = now
    fade = 0.5 ** (span / _HALF_LIFE)
    for kind in range(NUM_KINDS):
        for age in range(NUM_AGES):
            learnt[kind, age].returned *= fade
            learnt[kind, age].exposed *= fade
    for request in range(max(1, info.horizon), now):
        slot = request & (size - 1)
        if eviction.past[slot].total == 0:
            continue
        age = bucket_of(now - request)
        for kind in range(NUM_KINDS):
            learnt[kind, age].exposed += span * eviction.alive[slot, kind]
    _make_indices(eviction)


@kernel
def _make_indices(eviction: Eviction) -> None:
    learnt, pooled = eviction.learnt, eviction.pooled
    returned = exposed = 0.0
    for kind in range(NUM_KINDS):
        for age in range(NUM_AGES):
            returned += learnt[kind, age].returned
            exposed += learnt[kind, age].exposed
    if exposed <= 0.0:
        return
    before = returned / exposed
    for age in range(NUM_AGES):
        # Where nothing is known the rate falls as one over the age.
        guess = max(before * 0.7 if age > 2 else before, 1e-12)
        returned, exposed = 5.0, 5.0 / guess
        for kind in range(NUM_KINDS):
            returned += learnt[kind, age].returned
            exposed += learnt[kind, age].exposed
        before = returned / exposed
        pooled[age] = before
    for kind in range(NUM_KINDS):
        found, expected = _SHRINK, _SHRINK
        for age in range(NUM_AGES):
            found += learnt[kind, age].returned
            expected += learnt[kind, age].exposed * pooled[age]
        prior = _PRIOR * found / expected
        for age in range(NUM_AGES):
            best = returned = exposed = 0.0
            for later in range(age, NUM_AGES):
                returned += learnt[kind, later].returned + prior
                exposed += learnt[kind, later].exposed + _PRIOR / pooled[later]
                if returned > best * exposed:
                    best = returned / exposed
            learnt[kind, age].chance = best
    # A deepest block shields those above it, so it is worth no more than they.
    for kind in range(DEEPEST):
        for age in range(NUM_AGES):
            above, deepest = learnt[kind, age], learnt[kind + DEEPEST, age]
            deepest.chance = min(deepest.chance, above.chance)
