"""Runs for the rules to judge: hand-made sheets, and small workloads replayed and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.nano import NanoReplay
from kvatlas.engine.recorded import recording_header
from kvatlas.engine.replay import Replay
from kvatlas.events import Chunk, Header, resolved
from kvatlas.measure import Figures
from kvatlas.measure.contention import Contention
from kvatlas.measure.misses import MissAttribution
from kvatlas.measure.pollution import Pollution
from kvatlas.plan import Setup, replay_figures
from kvatlas.plan.rules import facts_of
from kvatlas.workload import Workload

HEALTHY: Mapping[str, float] = {
    "allocation.blocks": 10_000,
    "allocation.failed_decode": 0,
    "allocation.failed_running": 0,
    "allocation.failed_waiting": 0,
    "attribution.capacity": 0.01,
    "attribution.cold": 0.6,
    "attribution.cold_in_flight": 0.01,
    "attribution.configuration": 0.0,
    "attribution.granularity": 0.02,
    "clock.simulated_s": 100.0,
    "preemption.count": 0,
    "preemption.wasted_tokens": 0,
    "preemption.waste": 0.0,
    "prefix.ceiling_hit_tokens": 420_000,
    "prefix.ceiling_token_hit_rate": 0.42,
    "prefix.duplicate_blocks_mean": 3.0,
    "prefix.evicted_blocks": 2_000,
    "prefix.evicted_premature_blocks": 60,
    "prefix.lru_token_hit_rate": 0.39,
    "prefix.optimum_token_hit_rate": 0.4,
    "prefix.pollution_share": 0.9,
    "prefix.pollution_top_session_share": 0.02,
    "prefix.stranded_blocks_mean": 2.0,
    "prefix.token_hit_rate": 0.39,
    "queue.head_of_line_s": 0.0,
    "queue.head_refused_share": 0.0,
    "queue.length_time_weighted": 0.1,
    "running.time_weighted": 20.0,
    "usage.peak": 0.8,
    "usage.time_weighted": 0.5,
    "waste.internal_mean_slots": 160.0,
    "waste.internal_time_weighted": 0.01,
}
"""Figures of a run that asks for nothing: neither full nor idle, neither cold nor thrashing."""

FACTS: Mapping[str, float] = {
    "requests": 1000,
    "median_prompt_tokens": 1000,
    "longest_prompt_tokens": 4000,
}


def settings(**changes: Any) -> dict[str, Any]:
    """Return the `config` of a replay's JSON, as the command line's defaults make it."""
    said: dict[str, Any] = {
        "engine": "vllm",
        "engine_version": "0.32",
        "num_blocks": 20_000,
        "blocks_from": "--blocks",
        "model": None,
        "kv_memory_bytes": None,
        "bytes_per_block": None,
        "bytes_per_token": None,
        "block_size": 16,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        "max_model_len": 131072,
        "policy": "fcfs",
        "watermark": 0.0,
        "reserve_full_isl": True,
        "long_prefill_token_threshold": 0,
        "prefix_caching": True,
        "eviction_policy": "lru",
        "placement": "queue",
        "async_scheduling": False,
        "arrivals": "backlog",
        "queue_depth": 256,
        "step_time_model": "linear",
        "step_ms_base": 8.0,
        "step_ms_per_ktok": 12.0,
        "block_like_vllm": False,
        "trace": None,
        "format": None,
        "limit": None,
        "seed": None,
    }
    said |= changes
    if said["engine"] == "nano-vllm":
        said |= {"max_model_len": None, "reserve_full_isl": None}
        said |= {"engine_version": changes.get("engine_version", "bb823b3")}
        said |= {"block_size": changes.get("block_size", 256)}
    said["usable_blocks"] = said["num_blocks"] - (said["engine"] == "vllm")
    said["block_sizes"] = [said["block_size"]]
    group = {"kind": "FullAttentionSpec", "block_size": said["block_size"], "tag": ""}
    said.setdefault("kv_cache_groups", [])
    if not said["kv_cache_groups"]:
        said["kv_cache_groups"] = [{**group, "page_size_bytes": None, "padding_bytes": None}]
    return said


def sheet(**changes: float | None) -> Figures:
    """Return the healthy figures with some changed; `None` takes one away. `__` stands for `.`."""
    figures = Figures()
    values: dict[str, float | None] = dict(HEALTHY)
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    for name, value in values.items():
        if value is None:
            figures.lack("taken away", name)
        else:
            figures.put(name, value)
    return figures


@dataclass(frozen=True)
class Run:
    """A replay with everything measured."""

    workload: Workload
    header: Header
    figures: Figures

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return self.header.config

    @property
    def facts(self) -> dict[str, Any]:
        """What rules know of the workload."""
        return self.header.workload | facts_of(self.workload)


def run(workload: Workload, **changes: Any) -> Run:
    """Replay `workload` for real and measure it, from its events too where the engine has them."""
    config = settings(**changes)
    setup = Setup(config)
    chunks: list[Chunk] = []
    if config["engine"] == "vllm":
        replay = Replay(
            workload, setup.vllm, setup.drive, on_events=lambda chunk: chunks.append(chunk.copy())
        )
    else:
        replay = NanoReplay(workload, setup.nano, setup.drive)
    replay.run()
    said = {
        "requests": workload.num_requests,
        "prompt_tokens": workload.total_prompt_tokens,
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
    }
    header = recording_header(replay, version="test", engine="vLLM", config=config, workload=said)
    figures = replay_figures(replay, setup)
    if chunks:
        _from_events(figures, header, workload, chunks)
    return Run(workload, header, figures)


def _from_events(figures: Figures, header: Header, workload: Workload, chunks: list[Chunk]) -> None:
    """Add what only the events tell."""
    kept = dict(figures.values)
    for chunk in chunks:
        arrived = chunk.rows["event"] == 0
        whose: NDArray[np.int32] = chunk.rows["request"][arrived]
        chunk.rows["session"][arrived] = workload.session[whose]
    analysers = (MissAttribution(header), Contention(header), Pollution(header))
    for chunk in resolved(iter(chunks), header):
        for analyser in analysers:
            analyser.feed(chunk)
    for analyser in analysers:
        analyser.figures(figures)
    figures.values.update({name: value for name, value in kept.items() if value is not None})
    pollution = analysers[2].result()
    top = pollution.top_sessions(1)
    figures.ratio(
        "prefix.pollution_top_session_share",
        top[0][1] if top else 0,
        int(pollution.polluted_blocks.sum()),
        "no content was polluted",
    )
