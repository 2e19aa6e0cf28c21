"""The replay report in a terminal: what it says, and that it fits."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from documents import document, refused
from rich.console import Console

from kvatlas.report.replay_terminal import print_replay


def shown(columns: int = 80, **changes: Any) -> str:
    out = StringIO()
    print_replay(Console(file=out, width=columns, highlight=False), document(**changes))
    return out.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_fits_the_terminal(columns: int) -> None:
    text = shown(columns, never_served=tuple(refused(row) for row in range(9)), partial=True)
    assert max(len(line) for line in text.splitlines()) <= columns


def test_says_what_happened() -> None:
    text = " ".join(shown().split())
    for said in (
        "mooncake_conversation on vLLM 0.32",
        "12,031 requests · 20,000 blocks of 16 tokens · 256 seqs · 8,192 tokens a step",
        "Token hit rate 14.38%",
        "Ceiling 37.36%",
        "100% at its peak, 52.3% mean over time, 41.5% over steps",
        "0.74% of the slots held (1,243 on average)",
        "7,779,494 cached blocks",
        "30, 12,756 tokens computed again (0.88% of all)",
        "139 at admission, 30 while running",
        "433 ms median, 2.98 s at the 99th percentile",
        "for lack of blocks during 2.59 s (5.0% of the time)",
        "411 ms for 18,626 steps, 311 M scheduled tokens/s",
        "kernels from cache",
        "Exact every decision",
        "Modelled the clock",
        "Note something that a reader must know",
    ):
        assert said in text
    for unsaid in ("PARTIAL", "BLOCKED", "Never served", "not known", "None"):
        assert unsaid not in text


def test_what_is_not_known_says_why_and_is_no_zero() -> None:
    unknown = (
        "prefix.token_hit_rate",
        "prefix.ceiling_token_hit_rate",
        "waste.internal_time_weighted",
        "queue.time_p50_s",
    )
    text = " ".join(shown(unknown=unknown).split())
    for label in ("Token hit rate", "Ceiling", "Internal waste", "Queue time, TTFT"):
        assert f"{label} not known: nobody could know" in text


def test_partial_blocked_and_never_served_come_plainly() -> None:
    text = " ".join(
        shown(
            partial=True,
            blocked=refused(),
            never_served=tuple(refused(row) for row in range(5)),
            decisions={"requests": 12_031, "finished": 11, "steps": 3},
        ).split()
    )
    assert text.startswith("PARTIAL: interrupted after 11 of 12,031 requests")
    assert "the queue is blocked for ever by request 11, as in vLLM" in text
    assert "5 of 12,031 requests; they were set aside" in text
    assert "request 2: 87,169 prompt + 402 output tokens need 5,474 blocks" in text
    assert "and 2 more (--json lists them all)" in text


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        ({"compile_s": 11.2}, "kernels compiled in 11.2 s (once)"),
        ({"kernels_compiled": False}, "not compiled (NUMBA_DISABLE_JIT)"),
    ],
)
def test_compiling_is_told(timing: dict[str, Any], said: str) -> None:
    text = " ".join(shown(timing={**document().timing, **timing}).split())
    assert said in text


@pytest.mark.parametrize("prefetched", [0, 40])
def test_prefetched_blocks_are_told_apart_from_those_found_on_the_host(prefetched: int) -> None:
    figures = document().figures
    for name, value in {
        "tier.usage": 0.5,
        "tier.restored_blocks": 145,
        "tier.host_token_hit_rate": 0.189,
        "tier.written_blocks": 300,
        "tier.evictions_blocks": 7,
        "tier.moving_s": 0,
        "pressure.prefetched": prefetched,
    }.items():
        figures.put(name, value)
    config = {**document().config, "host_blocks": 64}
    text = " ".join(shown(figures=figures, config=config).split())
    assert f"{145 - prefetched} blocks brought back (18.9% of the prompt tokens" in text
    assert ("40 blocks brought back before admission" in text) == bool(prefetched)
    assert "in a device pool of this size" in text
    assert "device pool" not in " ".join(shown().split())
