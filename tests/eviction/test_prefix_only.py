"""Every policy against its definition, on random workloads and all ways to cut blocks."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive_hits
from small_workloads import SPAN, Prompt, block_paths, examples, make_workload, prompts

from kvatlas.errors import InputError
from kvatlas.eviction import OPTIMUM, POLICIES, PrefixOnlyRun, policy, simulate

pytestmark = pytest.mark.slow

ALL = [*POLICIES, OPTIMUM.name]
BY_LEAF = [name for name, one in POLICIES.items() if one.by_leaf] + [OPTIMUM.name]


def _tails(prompt_tokens: list[int], block_size: int) -> list[int]:
    step = max(SPAN, block_size)
    return [prompt // step * (step // block_size) for prompt in prompt_tokens]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=examples(30), deadline=None)
@given(
    drawn=prompts(),
    capacity=st.integers(1, 30),
    block_size=st.sampled_from([1, 2, SPAN, 2 * SPAN]),
    count_partial=st.booleans(),
    room=st.sampled_from(["after", "before"]),
)
def test_equal_to_the_definition(
    name: str,
    drawn: list[Prompt],
    capacity: int,
    block_size: int,
    count_partial: bool,
    room: str,
) -> None:
    """GIVEN any prompts WHEN a policy runs THEN each request hits what the naive model hits."""
    workload = make_workload(drawn)
    room = room if name in BY_LEAF else "after"
    result = simulate(
        workload,
        name,
        capacity,
        block_size=block_size,
        count_partial=count_partial,
        room=room,  # type: ignore[arg-type]
        rows=True,
    )
    paths = block_paths(workload, block_size, count_partial)
    expected = naive_hits(
        name,
        paths,
        capacity,
        room=room,
        slope=block_size / POLICIES["compute-aware"].knobs["crossover_tokens"],
        tails=_tails(workload.prompt_tokens.tolist(), block_size),
    )
    assert result.row_hit_blocks is not None
    assert result.row_hit_blocks.tolist() == expected
    assert result.hit_blocks == sum(expected)
    assert result.queried_blocks == sum(map(len, paths))
    prompt = workload.prompt_tokens.astype(np.int64)
    hits = np.array(expected) * block_size
    usable = prompt if count_partial else (prompt - 1) // block_size * block_size
    assert result.hit_tokens == int(np.minimum(hits, usable).sum())
    assert result.queried_tokens == int(prompt.sum())


def _conversations(seed: int, requests: int) -> list[Prompt]:
    """Return conversations that go on, some for long, and now and then take another way."""
    rng = random.Random(seed)
    texts: dict[int, list[int]] = {}
    drawn: list[Prompt] = []
    for _ in range(requests):
        speaker = min(int(rng.expovariate(0.06)), 79)
        text = texts.setdefault(speaker, [speaker % 3, speaker])
        if rng.random() < 0.2:
            del text[rng.randint(1, len(text)) :]
        if len(text) > 14:
            del text[2:]
        text += [rng.randint(0, 9) for _ in range(rng.randint(1, 3))]
        drawn.append((tuple(text), rng.randint(0, SPAN - 1)))
    return drawn


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("capacity", "block_size"),
    [(30, SPAN), (150, SPAN), (200, 2)],
)
def test_equal_to_the_definition_over_long_runs(name: str, capacity: int, block_size: int) -> None:
    """GIVEN conversations WHEN there is time to learn THEN still every request hits as defined."""
    drawn = _conversations(capacity, 500)
    answers = [1 + 90 * (row % 7 % 3) for row in range(len(drawn))]
    workload = make_workload(drawn, outputs=answers)
    result = simulate(workload, name, capacity, block_size=block_size, rows=True)
    expected = naive_hits(
        name,
        block_paths(workload, block_size),
        capacity,
        slope=block_size / POLICIES["compute-aware"].knobs["crossover_tokens"],
        tails=_tails(workload.prompt_tokens.tolist(), block_size),
        answers=answers,
    )
    assert result.row_hit_blocks is not None
    assert result.row_hit_blocks.tolist() == expected


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=examples(25), deadline=None)
@given(drawn=prompts(), capacity=st.integers(1, 30), room=st.sampled_from(["after", "before"]))
def test_keeps_its_promises_after_every_slice(
    name: str, drawn: list[Prompt], capacity: int, room: str
) -> None:
    """GIVEN any prompts WHEN a run is cut anywhere THEN it is whole and no prefix has holes."""
    workload = make_workload(drawn)
    room = room if name in BY_LEAF else "after"
    run = PrefixOnlyRun(workload, name, capacity, block_size=SPAN, room=room)  # type: ignore[arg-type]
    parent: dict[int, int] = {}
    for row in range(workload.num_requests):
        ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
        parent |= dict(zip(ids, [-1, *ids], strict=False))
    for _ in run.slices(max_accesses=1):
        run.check()
        cached = set(np.flatnonzero(run._cache.place_of).tolist())
        assert len(cached) <= capacity
        if name in BY_LEAF:
            assert all(parent[one] in cached or parent[one] < 0 for one in cached)
    run.check()
    assert run.requests_done == workload.num_requests


@settings(max_examples=examples(40), deadline=None)
@given(drawn=prompts(), capacity=st.integers(1, 30))
def test_nothing_beats_the_optimum(drawn: list[Prompt], capacity: int) -> None:
    workload = make_workload(drawn)
    best = simulate(workload, "optimum", capacity, block_size=SPAN).hit_blocks
    for name in POLICIES:
        assert simulate(workload, name, capacity, block_size=SPAN).hit_blocks <= best
    room_before = simulate(workload, "optimum", capacity, block_size=SPAN, room="before")
    assert room_before.hit_blocks <= best


@pytest.mark.parametrize("name", ALL)
def test_room_for_everything_is_the_ceiling(name: str) -> None:
    drawn = [((0, 1, 2), 0), ((0, 1, 3), 0), ((0, 1, 2), 0), ((4,), 2)]
    result = simulate(make_workload(drawn), name, 10**9, block_size=SPAN)
    assert (result.hit_blocks, result.evictions) == (5, 0)
    # The last prompt token is computed again, so a prompt that is all there lacks a block.
    assert result.hit_tokens == 4 * SPAN
    assert result.block_hit_rate == 5 / 9


def test_bad_input_is_one_line() -> None:
    workload = make_workload([((0,), 0)])
    with pytest.raises(InputError, match="one of lru, fifo, lfu") as refused:
        simulate(workload, "mru", 5, block_size=SPAN)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="at least 1 block"):
        simulate(workload, "lru", 0, block_size=SPAN)
    with pytest.raises(InputError, match="divide 4 tokens or be a multiple"):
        simulate(workload, "lru", 5, block_size=3)
    with pytest.raises(InputError, match="by leaf"):
        simulate(workload, "sieve", 5, block_size=SPAN, room="before")
    lengths = workload.with_(
        prefix_known=False, ids=workload.ids[:0], id_offsets=np.zeros(2, np.int64), num_ids=0
    )
    with pytest.raises(InputError, match="lengths only"):
        simulate(lengths, "lru", 5, block_size=SPAN)


def test_the_registry_says_what_each_policy_is() -> None:
    for name, one in POLICIES.items():
        assert (policy(name), one.name) == (one, name)
        assert one.title and one.summary and one.source
