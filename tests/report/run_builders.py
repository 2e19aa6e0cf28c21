"""Documents of a run to show: one with everything in it, and ways to change it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvatlas.measure import Figures
from kvatlas.report.run_document import Effect, Finding, Histogram, RunDocument, Table, TimeSeries

NASTY = "<script>alert(1)</script>\x1b[31m\n\u202edne"
"""A request's name that would draw in a terminal and run in a browser."""

FIGURES: dict[str, float] = {
    "prefix.token_hit_rate": 0.143789,
    "prefix.block_hit_rate": 0.15,
    "prefix.request_any": 0.9999,
    "prefix.request_full": 0.0098,
    "prefix.ceiling_token_hit_rate": 0.373617,
    "prefix.lru_token_hit_rate": 0.145108,
    "prefix.optimum_token_hit_rate": 0.364999,
    "prefix.evicted_blocks": 7_779_494,
    "prefix.evicted_premature_blocks": 1_000_000,
    "prefix.evicted_never_asked_blocks": 6_779_494,
    "prefix.pollution_share": 0.87,
    "prefix.stranded_blocks_mean": 12.5,
    "usage.time_weighted": 0.523,
    "usage.peak": 1.0,
    "waste.internal_time_weighted": 0.0074,
    "waste.never_used_share": 0.001,
    "waste.not_yet_used_share": 0.02,
    "waste.idle_cached_share": 0.3,
    "attribution.cold": 0.6,
    "attribution.capacity": 0.3,
    "attribution.granularity": 0.1,
    "attribution.configuration": 0.0,
    "attribution.missed_tokens": 123_456_789,
    "fragmentation.free_runs": 812,
    "fragmentation.largest_free_run": 97,
    "fragmentation.efi": 0.98,
    "fragmentation.efi_empty": 0.5,
    "fragmentation.ufsi_order_4": 0.25,
    "fragmentation.runs_per_request_mean": 14.2,
    "life.lifetime_p50_s": 31.0,
    "life.lifetime_p90_s": 64.0,
    "life.lifetime_mean_s": 40.0,
    "life.censored_share": 0.12,
    "preemption.count": 30,
    "preemption.wasted_tokens": 12_756,
    "allocation.failed_admission": 139,
    "allocation.failed_decode": 30,
    "queue.head_of_line_s": 2.59,
}


def time_series(intervals: int = 50) -> TimeSeries:
    """A course with a gap in it."""
    bounds = np.linspace(0.0, 3542.7, intervals + 1)
    wave = 0.5 + 0.4 * np.sin(np.arange(intervals))
    hit_rate = wave.copy()
    hit_rate[3:4] = np.nan
    used = np.round(10_000 * wave)
    evictable = np.round((19_999 - used) / 2)
    return TimeSeries(
        bounds[:-1],
        bounds[1:],
        {
            "used": used,
            "evictable": evictable,
            "empty": 19_999 - used - evictable,
            "waste": wave / 100,
            "hit_rate": hit_rate,
            "hit_rate_so_far": hit_rate / 2,
            "running": 100 * wave,
            "waiting": 200 * wave,
            "preemptions": np.round(wave),
            "failures": np.zeros(intervals),
            "evictions": np.round(1000 * wave),
        },
    )


def finding(**changes: Any) -> Finding:
    """One with everything that a finding may have."""
    given: dict[str, Any] = {
        "rule": "more_blocks",
        "tone": "act",
        "title": "More blocks would keep what is asked for again",
        "evidence": ("30% of the missed tokens had been cached and were evicted",),
        "change": "--blocks 40000",
        "effect": Effect(
            "prefix.token_hit_rate",
            0.143789,
            0.23,
            "kvatlas replay t.jsonl --blocks 40000",
            (("queue.time_p99_s", 2.98, 1.5),),
        ),
    }
    return Finding(**(given | changes))


def run_document(*, unknown: tuple[str, ...] = (), **changes: Any) -> RunDocument:
    """A run's document; the figures in `unknown` are lacking."""
    figures = Figures()
    for name, value in FIGURES.items():
        if name in unknown:
            figures.lack("nobody could know", name)
        else:
            figures.put(name, value)
    rows = tuple((row, NASTY if row == 3 else f"r{row}", 100 - row, 0.5 / (row + 1), 1.25 * row)
                 for row in range(8))  # fmt: skip
    given: dict[str, Any] = {
        "title": "mooncake_conversation on vLLM 0.32",
        "version": "9.8.7",
        "engine": "vLLM 0.32",
        "producer": "replay",
        "config": {
            "num_blocks": 20_000,
            "block_sizes": [16],
            "max_num_seqs": 256,
            "max_num_batched_tokens": 8192,
            "arrivals": "timed",
            "queue_depth": 256,
        },
        "workload": {"name": "mooncake_conversation", "requests": 12_031},
        "partial": "",
        "figures": figures,
        "series": time_series(),
        "histograms": {
            "free_runs": Histogram(
                "Free runs", "blocks", np.array([1.0, 2.0, 4.0, 8.0]), np.array([5.0, 3.0, 0.0])
            )
        },
        "tables": {
            "preempted": Table(
                "Most preempted", ("request", "name", "tokens", "waste_share", "lost_s"), rows
            ),
            "failures": Table("Failures", ("request", "needed"), ()),
        },
        "findings": (finding(), finding(tone="good", change=None, effect=None, rule="calm")),
        "notes": (
            "External fragmentation costs no allocation here: blocks are equal.",
            "something that a reader must know",
        ),
    }
    return RunDocument(**(given | changes))
