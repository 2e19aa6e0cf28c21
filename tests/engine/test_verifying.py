"""The verifier: a faithful recording is identical, and every fault in one is found where it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
from tests.engine.profiles import EXAMPLES
from tests.engine.served_calls import Server

from kvatlas.engine import EngineConfig, FullAttentionSpec, SlidingWindowSpec
from kvatlas.engine.verifying import Verification, verify_calls
from kvatlas.events.live.calls import (
    Allocated,
    Arrived,
    Cached,
    Call,
    Effect,
    Finished,
    Freed,
    Hashed,
    LookedUp,
    Preempted,
    Sampled,
    StepEnded,
)

BLOCK = 4
Fault = Callable[[list[Call], int], list[Call]]


def config(seed: int) -> EngineConfig:
    """Draw settings: small pools, so that requests are preempted; windows; both loops."""
    rng = random.Random(seed)
    windowed = rng.random() < 0.3
    groups = (
        FullAttentionSpec(block_size=BLOCK),
        SlidingWindowSpec(block_size=BLOCK, sliding_window=rng.choice([5, 9, 16])),
    )
    return EngineConfig(
        num_blocks=rng.choice([30, 40, 80, 200]),
        block_size=BLOCK,
        kv_cache_groups=groups if windowed else None,
        max_num_seqs=rng.choice([3, 6, 16]),
        max_num_batched_tokens=rng.choice([16, 40, 200]),
        max_model_len=120,
        # The small server settles every step before the next, where a window moves.
        async_scheduling=not windowed and rng.random() < 0.5,
        watermark=rng.choice([0.0, 0.05]),
        enable_prefix_caching=rng.random() < 0.9,
    )


@cache
def served(asynchronous: bool) -> tuple[EngineConfig, tuple[Call, ...]]:
    """A recording in which everything happens: hits, evictions, preemptions, aborted requests."""
    settings = EngineConfig(
        num_blocks=30,
        block_size=BLOCK,
        max_num_seqs=6,
        max_num_batched_tokens=40,
        max_model_len=120,
        async_scheduling=asynchronous,
    )
    server = Server(settings, seed=22)
    calls = tuple(server.run(20))
    assert server.preemptions > 0
    return settings, calls


@pytest.mark.parametrize("seed", range(min(10, EXAMPLES // 2)))
def test_what_was_served_is_identical(seed: int) -> None:
    """GIVEN a served load WHEN its calls are made once more THEN all is identical."""
    settings = config(seed)
    server = Server(settings, seed)
    calls = server.run(12 if EXAMPLES < 10 else 30)
    found = verify_calls(settings, calls)
    assert found.divergence is None
    made = sum(isinstance(call, LookedUp | Allocated | Freed | Cached) for call in calls) + 1
    assert found.calls == made
    assert found.steps == server.step
    assert found.requests == server.arrivals
    listed = [effect for call in calls for effect in getattr(call, "effects", ())]
    for kind in ("allocated", "touched", "evicted", "cached", "freed"):
        blocks = sum(len(effect.blocks) for effect in listed if effect.kind == kind)
        assert found.blocks.get(kind, 0) == blocks


def _with(call: Call, **fields: object) -> Call:
    """Copy a call with other fields."""
    return cast(Call, replace(cast(Any, call), **fields))


def _change_effect(call: Call, kind: str, change: Callable[[Effect], Effect]) -> Call | None:
    effects = getattr(call, "effects", ())
    for at, effect in enumerate(effects):
        if effect.kind == kind:
            return _with(call, effects=(*effects[:at], change(effect), *effects[at + 1 :]))
    return None


def _on(calls: list[Call], at: int, made: Callable[[Call], Call | None]) -> list[Call]:
    """Change the first call from `at` on that can be changed so."""
    for number in range(at, len(calls)):
        changed = made(calls[number])
        if changed is not None and changed != calls[number]:
            return [*calls[:number], changed, *calls[number + 1 :]]
    return []


def _lose(calls: list[Call], at: int, kind: type, *, only: Callable[[Call], bool]) -> list[Call]:
    for number in range(at, len(calls)):
        if isinstance(calls[number], kind) and only(calls[number]):
            return [*calls[:number], *calls[number + 1 :]]
    return []


def wrong_block(kind: str) -> Fault:
    """Another block id."""

    def moved(effect: Effect) -> Effect:
        blocks = (effect.blocks[0] % 28 + 1, *effect.blocks[1:])
        return replace(effect, blocks=blocks)

    return lambda calls, at: _on(calls, at, lambda call: _change_effect(call, kind, moved))


def swapped(kind: str) -> Fault:
    """Two blocks in the other order."""

    def turned(effect: Effect) -> Effect:
        keys = None if effect.keys is None else effect.keys[::-1]
        return replace(effect, blocks=effect.blocks[::-1], keys=keys)

    return lambda calls, at: _on(calls, at, lambda call: _change_effect(call, kind, turned))


def no_effect(kind: str) -> Fault:
    """An effect that was not recorded."""

    def without(call: Call) -> Call | None:
        return _change_effect(call, kind, lambda effect: replace(effect, blocks=(), keys=None))

    return lambda calls, at: _on(calls, at, without)


def wrong_key(calls: list[Call], at: int) -> list[Call]:
    """Other content in a cached block."""

    def other(effect: Effect) -> Effect:
        keys = effect.keys or ()
        return replace(effect, keys=(b"x" * 32, *keys[1:]))

    return _on(calls, at, lambda call: _change_effect(call, "cached", other))


def changed(kind: type, **fields: Callable[[int], int]) -> Fault:
    """A number that is not what it was."""

    def made(call: Call) -> Call | None:
        if not isinstance(call, kind):
            return None
        return _with(call, **{name: f(getattr(call, name)) for name, f in fields.items()})

    return lambda calls, at: _on(calls, at, made)


def lost(kind: type, only: Callable[[Call], bool] = lambda call: True) -> Fault:
    """A call that was not recorded."""
    return lambda calls, at: _lose(calls, at, kind, only=only)


def _is_refused(call: Call) -> bool:
    return isinstance(call, Allocated) and not call.served


def _is_quiet(call: Call) -> bool:
    return isinstance(call, Allocated) and call.served and not call.effects


def _has_blocks(call: Call) -> bool:
    return bool(getattr(call, "effects", ()))


FAULTS: dict[str, Fault] = {
    "another block allocated": wrong_block("allocated"),
    "another block hit": wrong_block("touched"),
    "another block evicted": wrong_block("evicted"),
    "another block cached": wrong_block("cached"),
    "another block freed": wrong_block("freed"),
    "allocated in another order": swapped("allocated"),
    "freed in another order": swapped("freed"),
    "evicted in another order": swapped("evicted"),
    "an eviction too few": no_effect("evicted"),
    "nothing cached": no_effect("cached"),
    "nothing freed": no_effect("freed"),
    "other content": wrong_key,
    "a longer hit": changed(LookedUp, hit_tokens=lambda hit: hit + BLOCK),
    "more tokens asked for": changed(LookedUp, num_tokens=lambda tokens: tokens + 1),
    "a served call refused": changed(Allocated, served=lambda served: not served),
    "a free block too many": changed(StepEnded, free_blocks=lambda free: free + 1),
    "a cached key too many": changed(StepEnded, cached_keys=lambda keys: keys + 1),
    "one runs too many": changed(StepEnded, running=lambda running: running + 1),
    "another length at the end": changed(Finished, num_tokens=lambda tokens: tokens + 1),
    "a lost arrival": lost(Arrived),
    "lost hashes": lost(Hashed),
    "a lost decoding call": lost(Allocated, _is_quiet),
    "a lost prefill": lost(Allocated, _has_blocks),
    "a lost preemption": lost(Preempted),
    "lost output": lost(Sampled),
    "lost frees": lost(Freed, _has_blocks),
}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(name: str, asynchronous: bool) -> None:
    """GIVEN a recording with one fault WHEN verified THEN it is not identical, and says where."""
    settings, calls = served(asynchronous)
    rng = random.Random(name)
    places = {0, *(rng.randrange(len(calls) // 2) for _ in range(2 if EXAMPLES > 10 else 1))}
    tried = 0
    for place in sorted(places):
        faulty = FAULTS[name](list(calls), place)
        if not faulty:
            continue
        tried += 1
        found = verify_calls(settings, faulty)
        assert found.divergence is not None, place
        assert found.divergence.differences
        first = next(
            (at for at, (a, b) in enumerate(zip(calls, faulty, strict=False)) if a != b),
            len(faulty),
        )
        assert _number_of_calls(found) >= _calls_before(calls, first) - 1
    assert tried or name in ("another block evicted", "evicted in another order")


def _number_of_calls(found: Verification) -> int:
    assert found.divergence is not None
    return found.divergence.call


def _calls_before(calls: tuple[Call, ...], at: int) -> int:
    """Calls of the manager before place `at`: a fault is not found before it is there."""
    return sum(isinstance(call, LookedUp | Allocated | Freed | Cached) for call in calls[:at])


def test_a_lost_async_cache_call_is_found() -> None:
    """GIVEN async output that completed a block WHEN its call is lost THEN that is a difference."""
    settings, calls = served(True)
    cached = [at for at, call in enumerate(calls) if isinstance(call, Cached)]
    assert cached
    for at in cached[:: max(1, len(cached) // 5)]:
        found = verify_calls(settings, [*calls[:at], *calls[at + 1 :]])
        assert not found.identical


def test_a_divergence_reads_as_a_diff() -> None:
    """GIVEN another block allocated WHEN verified THEN both ids and the calls before are named."""
    settings, calls = served(False)
    faulty = FAULTS["another block allocated"](list(calls), len(calls) // 2)
    first = verify_calls(settings, faulty).divergence
    assert first is not None
    assert first.made == "allocate_slots"
    assert first.name.startswith("r")
    difference = next(d for d in first.differences if d.what == "allocated")
    assert difference.recorded != difference.twin
    assert len(first.before) == 8
    assert first.before[-1].startswith("call ")


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_damaged_calls_never_break_the_twin(seed: int) -> None:
    """GIVEN calls shuffled, doubled and with absurd numbers WHEN verified THEN it ends, in bounds.

    The kernels check no bounds: what no engine asks must not reach them.
    """
    rng = random.Random(seed)
    settings, calls = served(rng.random() < 0.5)
    damaged = list(calls)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(damaged))
        what = rng.randrange(4)
        if what == 0:
            damaged.insert(at, rng.choice(calls))
        elif what == 1:
            other = rng.randrange(len(damaged))
            damaged[at], damaged[other] = damaged[other], damaged[at]
        elif what == 2:
            del damaged[at]
        else:
            damaged[at] = _absurd(rng, damaged[at])
    found = verify_calls(settings, damaged)
    assert found.calls <= len(damaged)


def _absurd(rng: random.Random, call: Call) -> Call:
    """Give one number of a call a value that no engine gives it."""
    names = [
        name
        for name in ("new_tokens", "hit_tokens", "lookahead", "num_tokens", "row", "prompt_tokens")
        if isinstance(getattr(call, name, None), int)
    ]
    if not names:
        return call
    value = rng.choice([-1, 0, 119, 121, 1 << 31, 1 << 62])
    return _with(call, **{rng.choice(names): value})
