"""The dashboard's panels and their queries.

Owns: what is drawn. Leaves to others: Grafana's JSON (`grafana`), the metrics (`metric_table`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SECTIONS", "Panel"]

_ENGINE = 'engine=~"$engine"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: queries with their legends.

    Attributes:
        unit: Grafana's id of it; look: `lines`, `stack` or `stat`.
        most: where the axis ends, None by itself.
    """

    title: str
    text: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    look: str = "lines"
    width: int = 8
    most: float | None = None


def _rate(name: str, by: str = "engine", labels: str = "") -> str:
    chosen = ", ".join(filter(None, (_ENGINE, labels)))
    return f"sum by ({by}) (rate({name}{{{chosen}}}[$__rate_interval]))"


def _now(name: str, labels: str = "") -> str:
    return f"{name}{{{', '.join(filter(None, (_ENGINE, labels)))}}}"


_FIRST = 'admission="first"'
_HIT_RATE = (
    f"{_rate('kvatlas_prefix_hit_tokens_total', labels=_FIRST)} / "
    f"{_rate('kvatlas_prefix_queried_tokens_total', labels=_FIRST)}"
)
SECTIONS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel("Pool in use", "Used blocks / all blocks.",
                   [(_now("kvatlas_pool_usage_ratio"), "{{engine}}")],
                   "percentunit", "stat", 4, 1.0),
            Panel("True occupancy", "Slots that hold a token / all slots.",
                   [(_now("kvatlas_pool_slot_usage_ratio"), "{{engine}}")],
                   "percentunit", "stat", 4, 1.0),
            Panel("Token hit rate", "Prompt tokens found in the cache / asked for.",
                   [(_HIT_RATE, "{{engine}}")], "percentunit", "stat", 4, 1.0),
            Panel("Preemptions", "Per second.",
                   [(_rate("kvatlas_preemptions_total"), "{{engine}}")], "ops", "stat", 4),
            Panel("Waiting requests", "Now.",
                   [(_now("kvatlas_requests", 'state="waiting"'), "{{engine}}")],
                   "short", "stat", 4),
            Panel("Alerts", "What kvatlas says needs a look.",
                   [(_now("kvatlas_alert"), "{{engine}}: {{name}}")], "short", "stat", 4),
        ),
    ),
    (
        "Memory of the pool",
        (
            Panel("Blocks", "A cache should be full; worry when used fills it all.",
                   [(_now("kvatlas_pool_blocks"), "{{engine}} {{state}}")], look="stack"),
            Panel("Slots", "Held by used blocks, and of these with a token.",
                   [(_now("kvatlas_pool_slots"), "{{engine}} all"),
                    (_now("kvatlas_pool_held_slots"), "{{engine}} held"),
                    (_now("kvatlas_pool_live_slots"), "{{engine}} with a token")]),
            Panel("Internal waste", "Wasted slots / held slots.",
                   [(_now("kvatlas_waste_ratio"), "{{engine}}")], "percentunit"),
            Panel("External index", "1 - longest free run / free blocks. Fails no allocation in a "
                   "pool of equal blocks; matters to transfers and huge pages.",
                   [(_now("kvatlas_external_fragmentation_ratio"), "{{engine}} {{free}}")],
                   "percentunit", most=1.0),
            Panel("Free runs", "Runs of neighbouring free blocks: how many, and the longest.",
                   [(_now("kvatlas_free_runs", 'free="any"'), "{{engine}} runs"),
                    (_now("kvatlas_free_run_largest_blocks", 'free="any"'),
                     "{{engine}} longest, blocks")]),
            Panel("Used blocks by KV cache group", "Hybrid models have several.",
                   [(_now("kvatlas_group_blocks", 'state="used"'),
                     "{{engine}} {{group}} {{kind}}")], look="stack"),
        ),
    ),
    (
        "Prefix cache",
        (
            Panel("Token hit rate", "At first admissions.", [(_HIT_RATE, "{{engine}}")],
                   "percentunit", most=1.0),
            Panel("Evictions by cause", "Cached blocks that gave way, per second.",
                   [(_rate("kvatlas_evicted_blocks_total", "engine, cause"),
                     "{{engine}} {{cause}}")], "ops", "stack"),
            Panel("Premature evictions", "Evicted blocks whose content was asked for again, per "
                   "second.",
                   [(_rate("kvatlas_evicted_premature_blocks_total"), "{{engine}}")], "ops"),
        ),
    ),
    (
        "Scheduling",
        (
            Panel("Requests", "Worry when the queue grows and does not drain.",
                   [(_now("kvatlas_requests"), "{{engine}} {{state}}")]),
            Panel("Preemptions", "Per second.",
                   [(_rate("kvatlas_preemptions_total"), "{{engine}}")], "ops"),
            Panel("Refused allocations", "Per second, by cause.",
                   [(_rate("kvatlas_allocation_failures_total", "engine, cause"),
                     "{{engine}} {{cause}}")], "ops", "stack"),
            Panel("Requests per second", "That came, and that are done.",
                   [(_rate("kvatlas_requests_arrived_total"), "{{engine}} came"),
                    (_rate("kvatlas_requests_finished_total", "engine, cause"),
                     "{{engine}} {{cause}}")], "reqps"),
            Panel("Tokens per second", "Computed, prompts and answers.",
                   [(_rate("kvatlas_computed_tokens_total"), "{{engine}}")]),
            Panel("Steps per second", "Of the scheduler.",
                   [(_rate("kvatlas_steps_total"), "{{engine}}")], "ops"),
        ),
    ),
    (
        "Recorder and process",
        (
            Panel("Lost", "Events and segments that are gone for good, and errors, so far.",
                   [(_now("kvatlas_recorder_lost_events_total"), "{{engine}} events"),
                    (_now("kvatlas_recorder_lost_segments_total"), "{{engine}} segments"),
                    (_now("kvatlas_recorder_errors_total"), "{{engine}} errors")]),
            Panel("Behind", "Since the last event.",
                   [(_now("kvatlas_recording_age_seconds"), "{{engine}}")], "s"),
            Panel("Recording on disk", "And the most that it may take.",
                   [(_now("kvatlas_recording_size_bytes"), "{{engine}}"),
                    (_now("kvatlas_recording_bound_bytes"), "{{engine}} bound")], "bytes"),
            Panel("Memory of the engine process", "Resident.",
                   [(_now("kvatlas_process_resident_memory_bytes"), "{{engine}}")], "bytes"),
            Panel("Device memory", "As PyTorch and NVML count it.",
                   [(_now("kvatlas_torch_allocated_bytes"), "{{engine}} {{device}} in tensors"),
                    (_now("kvatlas_torch_reserved_bytes"), "{{engine}} {{device}} reserved"),
                    (_now("kvatlas_device_used_bytes"), "{{engine}} {{device}} used by all")],
                   "bytes"),
        ),
    ),
)  # fmt: skip
"""Rows of the dashboard: a title, and panels from left to right."""
