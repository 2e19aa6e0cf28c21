"""Documents to show: a replay with everything in it, and ways to take things out."""

from __future__ import annotations

from typing import Any

from kvatlas.measure import Figures
from kvatlas.report.document import Refused, ReplayDocument

_FIGURES: dict[str, float] = {
    "prefix.token_hit_rate": 0.143789,
    "prefix.readmission_token_hit_rate": 0.9,
    "prefix.evicted_blocks": 7_779_494,
    "prefix.ceiling_token_hit_rate": 0.373617,
    "prefix.lru_token_hit_rate": 0.145108,
    "prefix.optimum_token_hit_rate": 0.364999,
    "attribution.cold": 0.6,
    "attribution.capacity": 0.3,
    "attribution.granularity": 0.1,
    "attribution.configuration": 0.0,
    "usage.peak": 1.0,
    "usage.mean_over_steps": 0.415,
    "usage.time_weighted": 0.523,
    "running.time_weighted": 166.04,
    "queue.length_time_weighted": 144.1,
    "queue.head_refused_s": 2.59,
    "queue.head_refused_share": 0.05,
    "clock.simulated_s": 3542.7,
    "clock.idle_s": 0.0,
    "waste.internal_time_weighted": 0.0074,
    "waste.internal_mean_slots": 1243.2,
    "preemption.count": 30,
    "preemption.recomputed_tokens": 12_756,
    "preemption.waste": 0.0088,
    "allocation.failed_running": 30,
    "allocation.failed_waiting": 139,
    "queue.time_p50_s": 0.433,
    "queue.time_p99_s": 2.98,
    "latency.ttft_p50_s": 0.739,
    "latency.ttft_p99_s": 3.3,
    "latency.tpot_p50_s": 0.0141,
    "latency.tpot_p99_s": 0.106,
    "latency.e2e_p50_s": 5.44,
    "latency.e2e_p99_s": 17.7,
}


def refused(row: int = 11) -> Refused:
    """A request that no pool of 4,999 blocks can serve."""
    return Refused(row, 87_169, 402, 5_474, "the pool has 4,999")


def document(*, unknown: tuple[str, ...] = (), **changes: Any) -> ReplayDocument:
    """A replay's document; the figures in `unknown` are lacking."""
    figures = Figures()
    for name, value in _FIGURES.items():
        if name in unknown:
            figures.lack("nobody could know", name)
        else:
            figures.put(name, value)
    given: dict[str, Any] = {
        "version": "9.8.7",
        "engine": "vLLM 0.32",
        "config": {
            "num_blocks": 20_000,
            "block_sizes": [16],
            "max_num_seqs": 256,
            "max_num_batched_tokens": 8192,
            "arrivals": "timed",
            "queue_depth": 256,
            "model": None,
            "prefix_caching": True,
            "watermark": 0.0,
        },
        "workload": {"name": "mooncake_conversation", "requests": 12_031, "notes": []},
        "decisions": {"requests": 12_031, "finished": 12_031, "steps": 18_626},
        "figures": figures,
        "timing": {
            "startup_s": 0.31,
            "load_s": 0.081,
            "compile_s": 0.0,
            "kernels_compiled": True,
            "engine_s": 0.411,
            "measure_s": 0.012,
            "total_s": 0.9,
            "scheduled_tokens_per_s": 311e6,
        },
        "exact": "every decision",
        "modelled": "the clock",
        "notes": ("something that a reader must know",),
    }
    return ReplayDocument(**(given | changes))
