"""The ladder: every rung is taken when it must be, and no request is lost, wrong or starved."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import Engine, PlainSwap, answer, make_storage

from kvatlas.defrag import MemoryDefragmenter
from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.engine.specs import FullAttentionSpec, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.pressure import OOMHandler

SIZE = 4


def make(blocks: int, *, room: int = 0, move: bool = False, **config: Any) -> Engine:
    """An engine on `blocks` blocks, with a tier of `room` blocks and somebody who moves blocks."""
    settings_ = {"num_blocks": blocks, "block_size": SIZE, "max_num_seqs": 8, "max_model_len": 128}
    manager = KVCacheManager(EngineConfig(**(settings_ | config)), secret=b"seed")
    storage = make_storage(blocks, SIZE)
    swap = PlainSwap(storage, room) if room else None
    mover = MemoryDefragmenter(manager, storage) if move else None
    return Engine(manager, OOMHandler(manager, swap=swap, defragmenter=mover), storage)


def prompts(rng: random.Random, count: int) -> list[Request]:
    """Prompts over few beginnings; every third is more urgent."""
    beginnings = [[rng.randrange(50) for _ in range(rng.randrange(0, 24))] for _ in range(3)]
    return [
        Request(
            f"r{i}",
            rng.choice(beginnings) + [rng.randrange(50) for _ in range(rng.randrange(1, 12))],
            rng.randrange(1, 20),
            priority=rng.choice([0, 0, 1]),
        )
        for i in range(count)
    ]


def run(engine: Engine, requests: list[Request], limit: int = 4000) -> None:
    """Serve all of them, a few arriving each step."""
    coming = list(requests)
    while coming or engine.waiting or engine.handler.running:
        engine.waiting += [coming.pop(0) for _ in range(min(2, len(coming)))]
        engine.step()
        assert engine.steps < limit, "somebody starves"


def require_all_right(engine: Engine, requests: list[Request]) -> None:
    """Nobody is lost, and every answer is what it would be with memory in plenty."""
    assert {request.request_id for request in engine.finished} == {r.request_id for r in requests}
    for request in requests:
        prompt = request.all_token_ids[: request.num_prompt_tokens]
        assert request.output_token_ids == answer(prompt, request.max_tokens), request.request_id
    assert engine.handler.running == ()
    assert engine.manager.usage == 0.0


@settings(max_examples=15 if COMPILED else 4, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(16, 40),
    room=st.sampled_from([0, 3, 12, 1000]),
    side_by_side=st.sampled_from([0.0, 0.3, 1.0]),
    caching=st.booleans(),
    budget=st.sampled_from([4, 16, 64]),
)
def test_nobody_is_lost_wrong_or_starved(
    seed: int, blocks: int, room: int, side_by_side: float, caching: bool, budget: int
) -> None:
    """GIVEN a pool far too small WHEN served down the ladder THEN every answer is right."""
    rng = random.Random(seed)
    engine = make(blocks, room=room, move=side_by_side > 0, enable_prefix_caching=caching)
    requests = prompts(rng, 14)
    picky = {r.request_id for r in requests if rng.random() < side_by_side}
    engine.budget, engine.contiguous = budget, lambda request: request.request_id in picky
    run(engine, requests)
    require_all_right(engine, requests)
    stats = engine.handler.stats
    gave_way = sum(request.num_preemptions for request in requests)
    assert stats.swaps + stats.preemptions == gave_way
    if not room:
        assert stats.swaps == stats.swapped_blocks == stats.restored_blocks == 0


def test_each_rung_is_taken_and_told() -> None:
    """GIVEN all means WHEN 40 requests share 20 blocks THEN every rung but refusal is counted."""
    rng = random.Random(5)
    engine = make(20, room=400, move=True)
    engine.contiguous = lambda request: int(request.request_id[1:]) % 4 == 0
    requests = prompts(rng, 40)
    run(engine, requests)
    require_all_right(engine, requests)
    stats = engine.handler.stats.as_dict()
    for name in ("evictions", "swaps", "restored_blocks", "defragmentations", "waits"):
        assert stats[name] > 0, name
    rungs = [taken.rung for taken in engine.handler.taken]
    assert {"evict", "swap", "defragment"} <= set(rungs)
    assert all(taken.blocks > 0 for taken in engine.handler.taken)


def test_without_a_tier_the_least_entitled_computes_again() -> None:
    """GIVEN no tier WHEN two outgrow the pool THEN the later gives way and is served after."""
    engine = make(9)
    first, later = Request("a", list(range(8)), 20), Request("b", list(range(20, 28)), 20)
    run(engine, [first, later])
    require_all_right(engine, [first, later])
    assert first.num_preemptions == 0 < later.num_preemptions
    stats = engine.handler.stats
    assert (stats.swaps, stats.preemptions) == (0, later.num_preemptions)
    assert {(t.request_id, t.needy) for t in engine.handler.taken if t.rung == "preempt"} == {
        ("b", "a")
    }


def test_a_tier_saves_what_was_computed() -> None:
    """GIVEN a tier WHEN a request gives way THEN it resumes with what it had, less a block."""
    engine = make(9, room=100, enable_prefix_caching=False)
    requests = [Request("a", list(range(8)), 20), Request("b", list(range(20, 28)), 20)]
    run(engine, requests)
    require_all_right(engine, requests)
    stats = engine.handler.stats
    assert stats.swaps == requests[1].num_preemptions > 0 == stats.preemptions
    assert stats.restored_blocks * SIZE > stats.lost_tokens - stats.swaps * SIZE


def test_the_urgent_are_served_first() -> None:
    """GIVEN priorities WHEN a more urgent one comes last THEN it never gives way."""
    engine = make(12)
    slow = [Request(f"s{i}", list(range(i, i + 6)), 20, priority=1) for i in range(3)]
    urgent = Request("u", [1, 2, 3], 24, priority=0)
    run(engine, [*slow, urgent])
    require_all_right(engine, [*slow, urgent])
    assert urgent.num_preemptions == 0
    assert engine.finished.index(urgent) < 2


def test_what_can_never_fit_is_refused_in_one_line() -> None:
    """GIVEN 10 blocks WHEN 14 would be needed THEN one line says so, and others go on."""
    engine = make(11)
    good = Request("good", [1, 2, 3], 5)
    engine.waiting = [good]
    engine.step()
    with pytest.raises(InputError, match="can never fit: it needs 14 blocks") as refused:
        engine.handler.admit(Request("big", list(range(30)), 25))
    assert "\n" not in str(refused.value)
    assert engine.handler.stats.refusals == 1
    while engine.handler.running:
        engine.step()
    require_all_right(engine, [good])
    # AND the largest that fits is served.
    largest = Request("largest", list(range(30)), 11)
    engine.waiting = [largest]
    while engine.waiting or engine.handler.running:
        engine.step()
    require_all_right(engine, [good, largest])


def test_nobody_overtakes_who_waits() -> None:
    """GIVEN a large request that waits WHEN small ones come THEN they do not pass it for ever."""
    engine = make(13)
    running = Request("running", list(range(20)), 12)
    engine.waiting = [running]
    engine.step()
    engine.step()
    large = Request("large", list(range(100, 130)), 4)
    small = [Request(f"small{i}", [i, i + 1], 6) for i in range(20)]
    engine.waiting += [large, *small]
    while engine.waiting or engine.handler.running:
        engine.step()
        assert engine.steps < 400
    order = [request.request_id for request in engine.finished]
    assert order.index("large") <= 2
    require_all_right(engine, [running, large, *small])


def test_misuse_is_one_clear_line() -> None:
    """GIVEN wrong calls WHEN made THEN InputError says what to do."""
    engine = make(20)
    handler, request = engine.handler, Request("a", [1, 2, 3], 4)
    with pytest.raises(InputError, match="does not run"):
        handler.grow(request)
    assert handler.admit(request) is not None
    with pytest.raises(InputError, match="runs already"):
        handler.admit(request)
    with pytest.raises(InputError, match="before anybody is admitted"):
        handler.grow(request)
    handler.new_step()
    with pytest.raises(InputError, match="nobody moves blocks"):
        handler.grow(request, contiguous=True)
    handler.finish(request)
    handler.check()
    groups = (FullAttentionSpec(block_size=4), SlidingWindowSpec(block_size=4, sliding_window=8))
    manager = KVCacheManager(EngineConfig(num_blocks=40, kv_cache_groups=groups))
    with pytest.raises(InputError, match="single full-attention group"):
        OOMHandler(manager, swap=PlainSwap(make_storage(40, 4), 4))


def test_several_groups_go_down_the_ladder() -> None:
    """GIVEN a windowed group beside full attention WHEN memory is short THEN all are served."""
    groups = (FullAttentionSpec(block_size=4), SlidingWindowSpec(block_size=4, sliding_window=8))
    engine = make(30, kv_cache_groups=groups)
    requests = prompts(random.Random(3), 20)
    run(engine, requests)
    require_all_right(engine, requests)
    assert engine.handler.stats.preemptions > 0
