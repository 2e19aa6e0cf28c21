"""Calls and values in words, for the one who reads where recording and twin part.

Owns: the words. Leaves to others: what is compared (`verifier`).
"""

from __future__ import annotations

from collections import Counter

from kvatlas.events.live.calls import (
    Allocated,
    Cached,
    Call,
    Effect,
    Evicted,
    Finished,
    Freed,
    FreedLater,
    LookedUp,
    StepEnded,
)

__all__ = ["outcome", "short", "word"]


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
