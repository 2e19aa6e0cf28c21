"""The cost model against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from kvatlas.errors import InputError
from kvatlas.tiers import SwapOrRecompute

LLAMA_8B: dict[str, Any] = {
    "bytes_per_token": 131_072,
    "flops_per_token": 16.06e9,
    "flops_per_token_pair": 524_288,
}


def test_times_by_hand() -> None:
    """GIVEN 25 GB/s and 400 TFLOP/s WHEN 1,000 tokens of Llama 3.1 8B THEN 10.5 against 40.8 ms."""
    costs = SwapOrRecompute(**LLAMA_8B, flops_per_s=400e12, read_bandwidth=25e9)
    assert costs.swap_s(1000, to_write=1000) == pytest.approx(2 * 131.072e6 / 25e9)
    flops = 1000 * 16.06e9 + 524_288 * 500_500
    assert costs.recompute_s(1000) == pytest.approx(flops / 400e12)
    later = costs.recompute_s(1000, after=50_000) - costs.recompute_s(1000)
    assert later == pytest.approx(524_288 * 1000 * 50_000 / 400e12)
    decision = costs.decide(1000)
    assert decision.swap
    assert "10.5 ms" in decision.text
    assert "40.8 ms" in decision.text


def test_the_verdict_turns_at_the_break_even() -> None:
    base = SwapOrRecompute(**LLAMA_8B, flops_per_s=400e12, read_bandwidth=1.0)
    even = base.break_even_bandwidth(1000)
    for bandwidth, swap in ((even * 1.01, True), (even / 1.01, False)):
        costs = SwapOrRecompute(**LLAMA_8B, flops_per_s=400e12, read_bandwidth=bandwidth)
        assert costs.decide(1000).swap is swap


def test_what_is_there_need_not_go_out_and_what_overlaps_costs_nothing() -> None:
    costs = SwapOrRecompute(**LLAMA_8B, flops_per_s=400e12, read_bandwidth=5e9)
    assert not costs.decide(1000).swap
    assert costs.decide(1000, to_write=0).swap
    hidden = SwapOrRecompute(**LLAMA_8B, flops_per_s=400e12, read_bandwidth=5e9, overlapped=1.0)
    assert hidden.decide(1000).swap_s == 0
    uneven = SwapOrRecompute(
        **LLAMA_8B, flops_per_s=400e12, read_bandwidth=5e9, write_bandwidth=50e9
    )
    assert uneven.swap_s(1000, to_write=1000) == pytest.approx(131.072e6 / 5e9 * 1.1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"flops_per_s": 0}, "flops_per_s"),
        ({"read_bandwidth": -1.0}, "read_bandwidth"),
        ({"write_bandwidth": 0.0}, "write_bandwidth"),
        ({"bytes_per_token": float("nan")}, "bytes_per_token"),
        ({"flops_per_token_pair": -1.0}, "flops_per_token_pair"),
        ({"overlapped": 1.5}, "overlapped"),
    ],
)
def test_bad_numbers_are_one_line(changes: dict[str, Any], field: str) -> None:
    good = {**LLAMA_8B, "flops_per_s": 1e12, "read_bandwidth": 1e9}
    with pytest.raises(InputError) as refused:
        SwapOrRecompute(**{**good, **changes})
    assert refused.value.field == field


def test_bad_stretches_are_refused() -> None:
    costs = SwapOrRecompute(**LLAMA_8B, flops_per_s=1e12, read_bandwidth=1e9)
    for tokens, after, to_write in ((-1, 0, None), (1, -1, None), (1, 0, 2)):
        with pytest.raises(InputError, match="no such stretch"):
            costs.decide(tokens, after=after, to_write=to_write)
    with pytest.raises(InputError, match="at least 1 token"):
        costs.break_even_bandwidth(0)
