"""Waste at the final lengths and the block view: published figures, a slow model, bad input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import small_workload

from kvatlas.errors import InputError
from kvatlas.measure.final_waste import block_view, final_waste
from kvatlas.workload import Workload, load


def public_trace(name: str) -> Workload:
    """Load a public trace from `KVATLAS_TRACES` or `shared/traces` beside the repository."""
    folder = os.environ.get("KVATLAS_TRACES")
    beside = Path(__file__).resolve().parents[3] / "shared" / "traces"
    path = (Path(folder) if folder else beside) / name
    if not path.exists():
        pytest.skip(f"the public trace {name} is not on this machine")
    return load(path)


@pytest.mark.parametrize(
    ("name", "percents"),
    [
        ("mooncake_conversation.jsonl", (0.06, 1.01, 7.43)),
        ("azure_llm_2023_conversation.csv", (0.54, 8.02, 45.83)),
    ],
)
def test_waste_of_public_traces(name: str, percents: tuple[float, ...]) -> None:
    workload = public_trace(name)
    for block_size, percent in zip((16, 256, 2048), percents, strict=True):
        waste = final_waste(workload, block_size).waste
        assert waste is not None
        assert round(100 * waste, 2) == percent


def test_block_view_of_the_conversation_trace() -> None:
    view = block_view(public_trace("mooncake_conversation.jsonl"), 512)
    rates = (view.token_hit_rate, view.block_hit_rate, view.request_any, view.request_full)
    assert [round(100 * (rate or 0), 2) for rate in rates] == [37.36, 36.64, 99.99, 0.98]


def test_waste_by_hand() -> None:
    # GIVEN 1, 16 and 17 tokens in blocks of 16: 1, 1 and 2 blocks
    found = final_waste(np.array([1, 16, 17]), 16)
    assert (found.live_tokens, found.allocated_slots) == (34, 64)
    assert found.waste == pytest.approx(30 / 64)
    assert final_waste(np.array([], np.int64), 16).waste is None


def test_lengths_of_a_workload_include_the_last_token() -> None:
    workload = small_workload(5)
    lengths = workload.prompt_tokens.astype(np.int64) + workload.output_tokens
    assert final_waste(workload, 8) == final_waste(lengths, 8)


def slow_view(workload: Workload, block_size: int) -> tuple[int, int, int, int]:
    """Return hit tokens, hit blocks, requests with a hit, requests with nothing but hits.

    Blocks are named by all identities up to their end: the definition of a prefix.
    """
    span, seen = workload.tokens_per_id, set()
    tokens = blocks = some = full = 0
    for row in range(workload.num_requests):
        first, last = workload.id_offsets[row : row + 2]
        ids = workload.ids[first:last].tolist()
        prompt = int(workload.prompt_tokens[row])
        names = []
        for end in range(block_size, prompt + block_size, block_size):
            covered = -(-min(end, -(-prompt // span) * span) // span)
            names.append((tuple(ids[:covered]), end if block_size < span else covered))
        hits = 0
        while hits < len(names) and names[hits] in seen:
            hits += 1
        tokens += min(prompt, hits * block_size)
        blocks += hits
        some += hits > 0
        full += hits == len(names)
        seen.update(names)
        if block_size > span:
            # What is known of a wide block's beginning is known of a shorter last block.
            seen.update((tuple(ids[:n]), n) for n in range(1, len(ids) + 1))
    return tokens, blocks, some, full


@given(st.integers(0, 300), st.sampled_from([1, 2, 4, 8, 12]))
def test_block_view_like_a_slow_one(seed: int, block_size: int) -> None:
    workload = small_workload(seed)
    view = block_view(workload, block_size)
    some, full = (round((rate or 0) * 14) for rate in (view.request_any, view.request_full))
    assert (view.hit_tokens, view.hit_blocks, some, full) == slow_view(workload, block_size)
    assert view.queried_tokens == workload.total_prompt_tokens
    assert view.queried_blocks == int((-(-workload.prompt_tokens // block_size)).sum())


def test_bad_input_is_one_line() -> None:
    workload = small_workload(0)
    for block_size in (0, -3):
        with pytest.raises(InputError, match="at least 1"):
            block_view(workload, block_size)
        with pytest.raises(InputError, match="at least 1"):
            final_waste(workload, block_size)
    with pytest.raises(InputError, match="multiple"):
        block_view(workload, 6)
    with pytest.raises(InputError, match="multiple"):
        block_view(workload, 3)
    nothing = workload.with_(
        prefix_known=False,
        ids=np.empty(0, np.int32),
        id_offsets=np.zeros(15, np.int64),
        num_ids=0,
    )
    with pytest.raises(InputError, match="lengths only"):
        block_view(nothing, 4)
