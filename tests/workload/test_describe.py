"""`describe`, against token-by-token models and hand-made workloads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_builders import public_trace

from kvatlas.errors import InputError
from kvatlas.workload import Workload, chain_ids, generate, load
from kvatlas.workload.describe import describe
from kvatlas.workload.model import id_counts
from kvatlas.workload.sharing import describe_sharing, reused_prompt_tokens

Tokens = list[int]


def from_tokens(
    requests: list[tuple[Tokens, Tokens]], span: int, *, with_outputs: bool, **columns: Any
) -> Workload:
    """Return the workload of these `(prompt, output)` tokens, identities of `span` tokens."""
    raw: list[int] = []
    blocks: dict[tuple[int, ...], int] = {}
    prompt = np.array([len(p) for p, _ in requests], dtype=np.int32)
    output = np.array([len(o) for _, o in requests], dtype=np.int32)
    for one, other in requests:
        tokens = one + other if with_outputs else one
        for start in range(0, len(tokens), span):
            block = tuple(tokens[start : start + span])
            raw.append(blocks.setdefault(block, len(blocks)))
    covered = prompt + output if with_outputs else prompt
    offsets = np.append(0, np.cumsum(id_counts(covered, span)))
    rows = len(requests)
    zeros, unknown = np.zeros(rows, dtype=np.int32), np.full(rows, -1, dtype=np.int32)
    ids, num_ids = chain_ids(np.array(raw), offsets, zeros)
    workload = Workload(
        name="made",
        source="by hand",
        arrival_s=np.arange(rows, dtype=np.float64),
        prompt_tokens=prompt,
        output_tokens=output,
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        prefix_known=True,
        outputs_identified=with_outputs,
        session=unknown,
        parent=unknown,
        priority=zeros,
        salt=zeros,
    ).with_(**columns)
    workload.check()
    return workload


def reused_by_model(
    requests: list[tuple[Tokens, Tokens]], block_size: int, with_outputs: bool
) -> list[int]:
    """Play vLLM's rule with an unbounded cache of whole prefixes."""
    cache: set[tuple[int, ...]] = set()
    reused = []
    for prompt, output in requests:
        hit = 0
        while hit < (len(prompt) - 1) // block_size:
            if tuple(prompt[: (hit + 1) * block_size]) not in cache:
                break
            hit += 1
        reused.append(hit * block_size)
        # The last sampled token is never computed, so it fills no block.
        computed = (prompt + output)[:-1] if with_outputs else prompt
        for end in range(block_size, len(computed) + 1, block_size):
            cache.add(tuple(computed[:end]))
    return reused


tokens = st.lists(st.integers(0, 1), min_size=1, max_size=14)
requests = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8)


@settings(deadline=None)  # the first example compiles
@given(requests, st.sampled_from([(2, 2), (2, 4), (3, 3), (1, 2), (2, 6)]), st.booleans())
def test_the_ceiling_is_that_of_an_unbounded_cache(
    made: list[tuple[Tokens, Tokens]], sizes: tuple[int, int], with_outputs: bool
) -> None:
    span, block_size = sizes
    workload = from_tokens(made, span, with_outputs=with_outputs)
    expected = reused_by_model(made, block_size, with_outputs)
    assert reused_prompt_tokens(workload, block_size).tolist() == expected


@settings(deadline=None)  # the first example compiles
@given(requests, st.booleans())
def test_blocks_smaller_than_an_identity_lose_the_partial_ones_at_most(
    made: list[tuple[Tokens, Tokens]], with_outputs: bool
) -> None:
    workload = from_tokens(made, 4, with_outputs=with_outputs)
    exact = np.array(reused_by_model(made, 2, with_outputs))
    found = reused_prompt_tokens(workload, 2)
    # A partial block shares its identity only with an equal partial block.
    assert (found <= exact).all()
    assert (found >= exact // 4 * 4).all()


def test_sharing_of_three_requests() -> None:
    # GIVEN a system prompt of 8 tokens shared by all, and 8 more shared by two
    system, turn = list(range(8)), list(range(100, 108))
    made = [(system + [50] * 8, [1]), (system + turn + [60], [1]), (system + turn + [70], [1])]
    found = describe_sharing(from_tokens(made, 4, with_outputs=False), 4)
    assert found.queried_tokens == 50
    assert found.ceiling_hit_tokens == 8 + 16
    assert found.ceiling_token_hit_rate == 24 / 50
    assert found.requests_with_reuse == 2
    assert [(p.tokens, p.requests) for p in found.top_prefixes] == [(8, 3), (16, 2)]
    assert found.unique_tokens == 16 + 8 + 2
    assert found.reuse is not None
    assert found.reuse.uses == 2 + 4
    assert found.reuse.p50_s == pytest.approx(1.0, rel=0.03)
    assert found.distinct_ids == 4 + 2 + 2


def test_a_prompt_seen_before_keeps_its_last_token() -> None:
    made = [([1] * 8, [2]), ([1] * 8, [2])]
    assert reused_prompt_tokens(from_tokens(made, 4, with_outputs=False), 4).tolist() == [0, 4]


def test_nothing_shared_has_no_reuse_times() -> None:
    found = describe(generate("comb", num_requests=20))
    assert found.sharing is not None
    assert found.sharing.reuse is None
    assert found.sharing.top_prefixes == ()
    assert found.sharing.ceiling_token_hit_rate == 0


@pytest.mark.parametrize("block_size", [0, 24, 3])
def test_blocks_that_do_not_fit_the_identities(block_size: int) -> None:
    with pytest.raises(InputError, match="block_size: blocks must divide 16 tokens"):
        describe(generate("comb", num_requests=3), block_size=block_size)


def test_lengths_and_sessions() -> None:
    made = [([1] * n, [2] * 3) for n in (10, 20, 30, 40)]
    workload = from_tokens(
        made,
        4,
        with_outputs=False,
        session=np.array([0, 0, 1, 0], dtype=np.int32),
        parent=np.array([-1, 0, -1, 1], dtype=np.int32),
        priority=np.array([0, 0, 2, 0], dtype=np.int32),
    )
    found = describe(workload, block_size=4)
    assert found.prompt_tokens.total == 100
    assert found.prompt_tokens.mean == 25
    assert found.prompt_tokens.p50 == 25
    assert found.prompt_tokens.max == 40
    assert found.total_tokens == 112
    assert found.span_s == 3
    assert found.sessions is not None and found.sessions.gap_s is not None
    assert found.sessions.count == 2
    assert found.sessions.turns.mean == 2
    assert found.sessions.gap_s.mean == 1.5
    assert found.priorities == {0: 3, 2: 1}
    assert found.salts == {0: 4}


def test_what_is_unknown_is_none_and_said() -> None:
    made = from_tokens([([1] * 4, [2])], 4, with_outputs=False)
    lengths = made.with_(
        prefix_known=False,
        ids=np.empty(0, dtype=np.int32),
        id_offsets=np.zeros(2, dtype=np.int64),
        num_ids=0,
    )
    found = describe(lengths)
    assert found.sharing is None and found.sessions is None
    assert found.arrivals.gap_cv is None
    assert found.arrivals.requests_per_s is None
    assert found.arrivals.peak_to_mean_per_minute is None
    assert found.notes == (
        "sharing is unknown: the trace has lengths only",
        "sessions are unknown: no request names one",
    )


class TestArrivals:
    def test_even_spacing(self) -> None:
        found = describe(generate("comb", num_requests=3000)).arrivals
        assert found.requests_per_s == pytest.approx(10)
        assert found.gap_cv == pytest.approx(0, abs=1e-9)
        assert found.peak_to_mean_per_minute == pytest.approx(1)
        assert found.dispersion[10] == pytest.approx(0)
        assert found.dispersion[60] is None

    def test_poisson(self) -> None:
        workload = generate("bursts", seed=3, num_requests=50_000, cv=1)
        found = describe(workload).arrivals
        assert found.gap_cv == pytest.approx(1, abs=0.02)
        assert found.dispersion[1] == pytest.approx(1, abs=0.05)
        assert found.dispersion[10] == pytest.approx(1, abs=0.15)

    def test_a_burst_in_a_minute(self) -> None:
        times_s = np.concatenate([np.arange(0, 60, 10), np.arange(60, 120, 1), [180.0]])
        made = [([1] * 4, [2])] * times_s.size
        workload = from_tokens(made, 4, with_outputs=False, arrival_s=times_s)
        found = describe(workload, block_size=4).arrivals
        # Whole minutes hold 6, 60 and 0 arrivals; the last arrival begins a fourth.
        assert found.peak_to_mean_per_minute == pytest.approx(60 / 22)


def test_the_dict_is_json_and_complete() -> None:
    found = describe(generate("conversation", num_requests=200)).to_dict()
    again = json.loads(json.dumps(found))
    assert again == found
    assert again["sharing"]["ceiling_token_hit_rate"] > 0.5
    assert set(again["arrivals"]["dispersion"]) == {"1", "10", "60"}
    assert again["salts"] == {"0": 200}


def test_the_public_conversation_trace_has_exactly_this_ceiling() -> None:
    # Counted once more with a Python set of (hash id, block in it) over the file.
    found = describe(load(public_trace("mooncake_conversation.jsonl"))).sharing
    assert found is not None
    assert (found.ceiling_hit_tokens, found.queried_tokens) == (54_097_440, 144_793_823)
    assert found.distinct_ids == 182_790


def test_an_empty_workload_is_refused() -> None:
    with pytest.raises(InputError, match="no requests"):
        describe(generate("comb", num_requests=1).head(0))
