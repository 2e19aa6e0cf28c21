"""Every Prometheus metric: its name, unit, meaning, and where its value stands in a moment.

Owns: the names, which are a contract with people's dashboards. Leaves to others: the text format
(`prometheus`), the figures (`board`).

What is not known has no sample. Counters count from the beginning of an engine's recording, and
begin anew with it; `rate` and `increase` know that.
"""

from __future__ import annotations

from typing import get_args

from kvatlas.watch.metric import Metric, count, devices, group, memory, one, several
from kvatlas.watch.moment import Moment, State

__all__ = ["METRICS"]


def _finished(moment: Moment) -> dict[str, float | None]:
    requests = moment.requests
    known = {"aborted": requests.aborted, "set_aside": requests.set_aside}
    return {"completed": requests.finished - sum(known.values()), **known}


METRICS: tuple[Metric, ...] = (
    Metric(
        "kvatlas_engine_info",
        "gauge",
        "Always 1; whose rules the engine follows, and how its events came.",
        ("version", "producer"),
        lambda m: [((m.version, m.producer), 1.0)],
    ),
    several(
        "gauge",
        "kvatlas_engine_state",
        "1 for the engine's state, 0 for the others.",
        "state",
        lambda m: {state: float(m.health.state == state) for state in get_args(State)},
    ),
    one("kvatlas_engine_clock_seconds", "The engine's clock.", lambda m: m.time_s),
    several(
        "gauge",
        "kvatlas_pool_blocks",
        "Blocks of the pool: used (owned), evictable (free, still cached), empty.",
        "state",
        lambda m: {
            "used": m.pool.used_blocks,
            "evictable": m.pool.evictable_blocks,
            "empty": m.pool.empty_blocks,
        },
    ),
    one("kvatlas_pool_usage_ratio", "Used blocks / all blocks.", lambda m: m.pool.usage),
    one(
        "kvatlas_pool_resident_ratio",
        "Blocks that hold something (used or evictable) / all blocks.",
        lambda m: m.pool.resident,
    ),
    one("kvatlas_pool_slots", "Token slots of the whole pool.", lambda m: m.pool.total_slots),
    one("kvatlas_pool_held_slots", "Slots of used blocks.", lambda m: m.pool.held_slots),
    one("kvatlas_pool_live_slots", "Slots that hold a token.", lambda m: m.pool.live_slots),
    one(
        "kvatlas_pool_slot_usage_ratio",
        "True occupancy: slots that hold a token / all slots.",
        lambda m: m.pool.slot_usage,
    ),
    one("kvatlas_pool_size_bytes", "The whole pool in bytes.", lambda m: m.pool.bytes),
    one(
        "kvatlas_waste_slots",
        "Internal waste: slots of used blocks without a token, shared blocks counted once.",
        lambda m: m.waste.wasted_slots,
    ),
    one("kvatlas_waste_ratio", "Wasted slots / held slots.", lambda m: m.waste.internal),
    several(
        "gauge",
        "kvatlas_free_runs",
        "Maximal runs of consecutive free blocks; free: any free block, or only empty ones.",
        "free",
        lambda m: {"any": m.free_runs.count, "empty": m.empty_runs.count},
    ),
    several(
        "gauge",
        "kvatlas_free_run_largest_blocks",
        "The longest run of consecutive free blocks.",
        "free",
        lambda m: {"any": m.free_runs.largest, "empty": m.empty_runs.largest},
    ),
    several(
        "gauge",
        "kvatlas_external_fragmentation_ratio",
        "1 - longest free run / free blocks. Fails no allocation in a pool of equal blocks.",
        "free",
        lambda m: {"any": m.free_runs.efi, "empty": m.empty_runs.efi},
    ),
    several(
        "counter",
        "kvatlas_prefix_queried_tokens_total",
        "Prompt tokens that the prefix cache was asked for, by admission.",
        "admission",
        lambda m: {"first": m.prefix.queries, "resumed": m.prefix.resumed_queries},
    ),
    several(
        "counter",
        "kvatlas_prefix_hit_tokens_total",
        "Of these, tokens found in the cache.",
        "admission",
        lambda m: {"first": m.prefix.hits, "resumed": m.prefix.resumed_hits},
    ),
    several(
        "counter",
        "kvatlas_evicted_blocks_total",
        "Cached blocks that lost their content, by what for.",
        "cause",
        lambda m: {
            "prefill": m.evictions.prefill,
            "decode": m.evictions.decode,
            "explicit": m.evictions.explicit,
            "replaced": m.evictions.replaced,
        },
    ),
    count(
        "kvatlas_evicted_premature_blocks_total",
        "Evicted blocks whose content was asked for again.",
        lambda m: m.evictions.premature,
    ),
    one(
        "kvatlas_evicted_never_asked_blocks",
        "Evicted blocks whose content nobody asked for again so far.",
        lambda m: m.evictions.never_asked,
    ),
    count("kvatlas_cache_resets_total", "Resets of the cache.", lambda m: m.evictions.resets),
    count(
        "kvatlas_cache_forgotten_blocks_total",
        "Cached blocks forgotten by resets.",
        lambda m: m.evictions.forgotten,
    ),
    several(
        "counter",
        "kvatlas_allocation_failures_total",
        "Attempts to allocate slots that were refused, one per step and request.",
        "cause",
        lambda m: {
            "admission": m.failures.admission,
            "prefill": m.failures.prefill,
            "decode": m.failures.decode,
        },
    ),
    several(
        "gauge",
        "kvatlas_requests",
        "Requests that run or wait now.",
        "state",
        lambda m: {"running": m.requests.running, "waiting": m.requests.waiting},
    ),
    count("kvatlas_requests_arrived_total", "Requests that came.", lambda m: m.requests.arrived),
    several(
        "counter",
        "kvatlas_requests_admitted_total",
        "Admissions: for the first time, or again after a preemption.",
        "admission",
        lambda m: {"first": m.requests.admitted, "resumed": m.requests.resumed},
    ),
    several(
        "counter",
        "kvatlas_requests_finished_total",
        "Requests that are done, by how.",
        "cause",
        _finished,
    ),
    count(
        "kvatlas_preemptions_total",
        "Running requests that lost their blocks.",
        lambda m: m.requests.preemptions,
    ),
    count("kvatlas_steps_total", "Steps of the scheduler, recorded or not.", lambda m: m.step),
    count(
        "kvatlas_computed_tokens_total",
        "Tokens computed, prompts and answers.",
        lambda m: m.computed_tokens,
    ),
    Metric(
        "kvatlas_group_blocks",
        "gauge",
        "Blocks of a KV cache group.",
        ("group", "kind", "state"),
        lambda m: [
            ((str(row.group), row.kind, state), value)
            for row in m.groups
            for state, value in (("used", row.used_blocks), ("evictable", row.evictable_blocks))
        ],
    ),
    group("gauge", "kvatlas_group_held_slots", "Slots of its used blocks.",
           lambda row: row.held_slots),
    group("gauge", "kvatlas_group_used_bytes", "Bytes of its used blocks.",
           lambda row: row.used_bytes),
    group("counter", "kvatlas_group_allocated_blocks_total", "Blocks taken empty.",
           lambda row: row.allocated_blocks),
    group("counter", "kvatlas_group_hit_blocks_total", "Cached blocks taken over as they were.",
           lambda row: row.hit_blocks),
    group("counter", "kvatlas_group_cached_blocks_total", "Blocks that became cached.",
           lambda row: row.cached_blocks),
    group("counter", "kvatlas_group_evicted_blocks_total", "Cached blocks that were evicted.",
           lambda row: row.evicted_blocks),
    Metric(
        "kvatlas_alert",
        "gauge",
        "1 while there is this alert.",
        ("name", "level"),
        lambda m: [((alert.name, alert.level), 1.0) for alert in m.alerts],
    ),
    count("kvatlas_recorder_lost_events_total", "Events that were not recorded, or dropped.",
           lambda m: m.health.lost_events),
    count("kvatlas_recorder_lost_segments_total", "Segments dropped to stay within the bound.",
           lambda m: m.health.lost_segments),
    count("kvatlas_recorder_errors_total", "Errors inside the recorder's hooks; vLLM saw none.",
           lambda m: m.health.errors),
    one("kvatlas_recording_size_bytes", "The recording on disk.",
         lambda m: m.health.bytes_on_disk),
    one("kvatlas_recording_bound_bytes", "The most that it may take.",
         lambda m: m.health.bytes_bound),
    one("kvatlas_recording_age_seconds", "Since its last event.", lambda m: m.health.age_s),
    one("kvatlas_reader_lag_events", "Recorded and not yet read.", lambda m: m.health.lag_events),
    one("kvatlas_reader_stopped", "1 when the recording cannot be read on.",
         lambda m: float(bool(m.health.fault))),
    one("kvatlas_process_resident_memory_bytes", "The engine process's resident memory.",
         lambda m: memory(m, "rss_bytes")),
    one("kvatlas_process_virtual_memory_bytes", "The engine process's virtual memory.",
         lambda m: memory(m, "vms_bytes")),
    count("kvatlas_process_cpu_seconds_total", "Processor time of the engine process.",
           lambda m: memory(m, "cpu_s")),
    Metric("kvatlas_torch_allocated_bytes", "gauge", "Device memory in tensors, by PyTorch.",
           ("device",), devices("torch", "allocated_bytes")),
    Metric("kvatlas_torch_reserved_bytes", "gauge", "Device memory that PyTorch's allocator holds.",
           ("device",), devices("torch", "reserved_bytes")),
    Metric("kvatlas_device_used_bytes", "gauge", "Used memory of a device, all processes, by NVML.",
           ("device",), devices("nvml", "used_bytes")),
    Metric("kvatlas_device_size_bytes", "gauge", "Memory of a device, by NVML.",
           ("device",), devices("nvml", "total_bytes")),
)  # fmt: skip
