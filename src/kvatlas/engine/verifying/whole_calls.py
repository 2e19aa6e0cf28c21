"""Calls that a recorder writes down in parts, put together again.

Owns: which parts belong to one call. Leaves to others: making it (`verifier`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kvatlas.events.live.calls import Allocated, Cached, Call, Hashed, StepBegan, StepEnded

__all__ = ["whole_calls"]


def whole_calls(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield calls in order, each whole. O(calls).

    The pool tells what one `cache_blocks` did group by group. And `allocate_slots` gives back what
    is out of the attention window before it finds that there is no room: what was freed then looks
    like a call that was served until the refusal is on record.
    """
    held: Allocated | Cached | None = None
    for call in _with_tokens(calls):
        if held is not None:
            joined = _joined(held, call)
            if joined is not None:
                held = joined
                continue
            if type(call) is Hashed and call.row == held.row:
                yield call
                continue
            yield held
            held = None
        if type(call) is Cached or (type(call) is Allocated and _only_freed(call)):
            held = call
        else:
            yield call
    if held is not None:
        yield held


def _with_tokens(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield calls step by step; one whose tokens were not seen gets those that were scheduled."""
    step: list[Call] = []
    inside = False
    for call in calls:
        if type(call) is StepBegan:
            yield from step
            step, inside = [], True
        if not inside:
            yield call
            continue
        step.append(call)
        if isinstance(call, StepEnded):
            scheduled = dict(zip(call.rows, call.new_tokens, strict=True))
            for made in step:
                if isinstance(made, Allocated) and made.new_tokens < 1:
                    yield replace(made, new_tokens=scheduled.get(made.row, made.new_tokens))
                else:
                    yield made
            step, inside = [], False
    yield from step


def _joined(first: Allocated | Cached, second: Call) -> Allocated | Cached | None:
    if isinstance(first, Cached):
        if type(second) is Cached and second.row == first.row:
            return Cached(first.row, first.effects + second.effects)
        return None
    if type(second) is Allocated and second.row == first.row and not second.served:
        return replace(second, effects=first.effects + second.effects)
    return None


def _only_freed(call: Allocated) -> bool:
    return call.served and all(effect.kind == "freed" for effect in call.effects)
