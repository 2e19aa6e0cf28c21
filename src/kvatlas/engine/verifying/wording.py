"""Calls and values in words, for the one who reads where recording and twin part.

Owns: the words. Leaves to others: what is compared (`verifier`).
"""

from __future__ import annotations

from collections import Counter

from kvatlas.events.live.calls import (
    Allocated,
    Arrived,
    Cached,
    Call,
    Effect,
    Evicted,
    Finished,
    Freed,
    FreedLater,
    Hashed,
    LookedUp,
    PoppedForFree,
    Preempted,
    Reset,
    Sampled,
    StepBegan,
    StepEnded,
)

__all__ = ["MANAGER_CALLS", "name_of", "outcome", "short", "word"]

MANAGER_CALLS = {
    LookedUp: "get_computed_blocks",
    Allocated: "allocate_slots",
    Cached: "cache_blocks",
    Freed: "free",
    PoppedForFree: "pop_blocks_for_free",
    FreedLater: "free_blocks",
    Reset: "reset_prefix_cache",
    Evicted: "evict_blocks",
}
"""The calls of vLLM's manager and pool, by vLLM's names; others say when and for whom."""

_OTHERS = {
    Arrived: "add_request",
    Hashed: "block hashes",
    StepBegan: "schedule begins",
    StepEnded: "schedule returns",
    Sampled: "update_from_output",
    Preempted: "preemption",
    Finished: "end",
}


def name_of(kind: type) -> str:
    """Return what a kind of call is called."""
    return MANAGER_CALLS.get(kind) or _OTHERS.get(kind, kind.__name__)


def word(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def short(value: object, other: object) -> str:
    """Say a value; of scheduled requests only those that the other side has otherwise."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return word(value)
    differing = [
        f"request {row}: {tokens:,} tokens"
        for row, tokens in value.items()
        if other.get(row) != tokens
    ]
    if not differing:
        return "the same requests" if len(value) == len(other) else "nobody else"
    return "; ".join(differing[:4]) + ("; ..." if len(differing) > 4 else "")


def outcome(call: Call) -> str:
    """Say briefly what a recorded call did."""
    match call:
        case LookedUp(hit_tokens=hit):
            return f", {hit:,} tokens hit" if hit >= 0 else ", not asked"
        case Allocated(new_tokens=tokens, served=served, effects=effects):
            return f", {tokens:,} tokens{'' if served else ' refused'}{_counts(effects)}"
        case Cached(effects=effects) | Freed(effects=effects) | FreedLater(effects=effects):
            return _counts(effects)
        case Evicted(effects=effects):
            return _counts(effects)
        case StepEnded(tokens=tokens, free_blocks=free):
            return f", {tokens:,} tokens, {free:,} blocks free"
        case Finished(status=status, num_tokens=tokens):
            return f", {status}, {tokens:,} tokens"
        case _:
            return ""


def _counts(effects: tuple[Effect, ...]) -> str:
    counted: Counter[str] = Counter()
    for effect in effects:
        counted[effect.kind] += len(effect.blocks)
    return "".join(f", {count:,} {kind}" for kind, count in counted.items() if count)
