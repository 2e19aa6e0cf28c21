"""From a finished replay to the document that every view shows.

Owns: what `config`, `workload` and `timing` say, the reasons why requests are never served, and
which notes a reader must see. Leaves to others: the figures (`kvatlas.measure`).
"""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace as dataclass_replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kvatlas.cli.engines import EngineChoice
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.cli.stopwatch import Stopwatch
from kvatlas.cli.version import version
from kvatlas.engine.replay import Replay
from kvatlas.engine.settings import DRIVE_SETTINGS, ENGINE_SETTINGS, TIER
from kvatlas.engine.specs import KVCacheSpec
from kvatlas.engine.workload_rows import blocks_needed
from kvatlas.jit import COMPILED
from kvatlas.measure import measure_replay
from kvatlas.report.document import Refused, ReplayDocument
from kvatlas.workload import Workload

if TYPE_CHECKING:
    from kvatlas.pressure.hybrid import BudgetedReplay

__all__ = ["said_config", "said_workload", "summarise"]


def summarise(
    flags: ReplayFlags,
    choice: EngineChoice,
    replay: Replay,
    watch: Stopwatch,
) -> ReplayDocument:
    """Measure `replay` and return all there is to say about it. O(N log N + M)."""
    with watch.stage("measure_s"):
        workload, result, conditions = replay.workload, replay.result(), choice.conditions()
        budgeted = _budgeted(flags, replay)
        if budgeted is not None:
            mean_blocks = round(budgeted.mean_device_blocks())
            conditions = dataclass_replace(conditions, usable_blocks=max(1, mean_blocks))
        figures = measure_replay(result, workload, conditions)
        refused = _refused(choice, workload, result.rejected)
        blocked = None
        if result.blocked_row is not None:
            blocked = _refused(choice, workload, (result.blocked_row,))[0]
    chosen = choice.block_size_choice
    measured_waste = figures.values.get("waste.internal_time_weighted")
    return ReplayDocument(
        version=version(),
        engine=choice.title,
        config=said_config(flags, choice),
        workload=said_workload(workload),
        decisions=result.decisions,
        figures=figures,
        timing=_timing(watch, result.decisions, result.sums),
        exact=f"every decision of every step, by the rules of {choice.title}",
        modelled=_modelled(choice),
        never_served=refused,
        blocked=blocked,
        partial=result.partial and blocked is None,
        notes=(*workload.notes, *choice.pool.notes, *_notes(choice, workload)),
        block_size_choice=None if chosen is None else chosen.said(measured_waste),
        hybrid=None if budgeted is None else budgeted.said(),
    )


def _budgeted(flags: ReplayFlags, replay: Replay) -> BudgetedReplay | None:
    """Return the replay as one under a budget, None without."""
    if flags.memory_budget is None:
        return None
    from kvatlas.pressure.hybrid import BudgetedReplay

    assert isinstance(replay, BudgetedReplay)
    return replay


def _modelled(choice: EngineChoice) -> str:
    drive, config = choice.drive, choice.config
    said = (
        f"the clock: a step takes {drive.step_ms_base:g} ms + {drive.step_ms_per_ktok:g} ms per "
        "1,000 tokens (linear, not calibrated)"
    )
    if config.host_blocks == 0:
        return said
    if config.host_bandwidth == 0:
        return f"{said}; moving blocks to the host tier and back takes no time (--host-bandwidth)"
    return (
        f"{said}; a block to or from the host tier {config.host_ms_per_block:.3g} ms, both ways at "
        "once, none of it hidden behind the computation"
    )


def said_config(flags: ReplayFlags, choice: EngineChoice) -> dict[str, Any]:
    """Return every setting, as the JSON's `config`."""
    config, drive = choice.config, choice.drive
    usable = config.num_blocks - 1
    return {
        "engine": flags.engine,
        "engine_version": choice.version,
        # nano-vLLM has no null block; vLLM counts its own.
        "num_blocks": usable if choice.is_nano else config.num_blocks,
        "usable_blocks": usable,
        **choice.pool.said,
        "block_size": choice.pool.block_size,
        "block_sizes": sorted({spec.block_size for spec in config.groups}),
        "kv_cache_groups": [_group(spec) for spec in config.groups],
        **_engine_settings(flags, choice),
        **{each.key: getattr(drive, each.field) for each in DRIVE_SETTINGS},
        "step_time_model": "linear",
        "trace": flags.trace,
        **flags.reading(),
    }


def _engine_settings(flags: ReplayFlags, choice: EngineChoice) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for setting in ENGINE_SETTINGS:
        if setting.panel == TIER:  # the flags may say it in bytes
            said[setting.key] = setting.said(getattr(choice.config, setting.field))
        else:
            said[setting.key] = getattr(flags, setting.name)
    if choice.is_nano:  # has neither, on or off
        said |= {"max_model_len": None, "reserve_full_isl": None}
    return said


def _group(spec: KVCacheSpec) -> dict[str, Any]:
    """Return a group by vLLM's name of its spec, with the fields that the spec has."""
    said = asdict(spec)
    if not spec.page_size_bytes:
        said["page_size_bytes"] = said["padding_bytes"] = None
    return {"kind": type(spec).__name__, **said}


def said_workload(workload: Workload) -> dict[str, Any]:
    """Return what was replayed, as the JSON's `workload`."""
    arrival_s = workload.arrival_s
    sessions = int(workload.session.max(initial=-1)) + 1
    return {
        "name": workload.name,
        "source": workload.source,
        "requests": workload.num_requests,
        "prompt_tokens": workload.total_prompt_tokens,
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
        "span_s": float(arrival_s[-1] - arrival_s[0]) if arrival_s.size else 0.0,
        "tokens_per_id": workload.tokens_per_id if workload.prefix_known else None,
        "distinct_ids": workload.num_ids if workload.prefix_known else None,
        "prefix_known": workload.prefix_known,
        "outputs_identified": workload.outputs_identified,
        "sessions": sessions or None,
        "notes": list(workload.notes),
    }


def _timing(watch: Stopwatch, decisions: Any, sums: Any) -> dict[str, float | bool]:
    stages = watch.stages
    engine_s = stages["run_s"]
    return {
        "startup_s": stages["startup_s"],
        "load_s": stages["load_s"],
        "build_s": stages["build_s"],
        "compile_s": watch.compile_s,
        "kernels_load_s": stages["kernels_s"],
        "kernels_compiled": COMPILED,
        "engine_s": engine_s,
        "measure_s": stages["measure_s"],
        "total_s": watch.total_s,
        "scheduled_tokens_per_s": decisions["scheduled_tokens"] / max(engine_s, 1e-9),
        "blocks_per_s": sums["allocations"] / max(engine_s, 1e-9),
    }


def _refused(
    choice: EngineChoice, workload: Workload, rows: tuple[int, ...]
) -> tuple[Refused, ...]:
    if not rows:
        return ()
    needed = blocks_needed(workload, choice.config)
    return tuple(
        Refused(
            row=row,
            prompt_tokens=int(workload.prompt_tokens[row]),
            output_tokens=int(workload.output_tokens[row]),
            blocks_needed=int(needed[row]),
            reason=_reason(choice, int(workload.prompt_tokens[row]), int(needed[row])),
        )
        for row in sorted(rows)
    )


def _reason(choice: EngineChoice, prompt_tokens: int, needed: int) -> str:
    usable = choice.config.num_blocks - 1
    if not choice.is_nano and prompt_tokens >= choice.config.max_model_len:
        return f"its prompt leaves no room within --max-model-len {choice.config.max_model_len:,}"
    if needed > usable:
        return f"the pool has {usable:,}"
    return f"an empty pool of {usable:,} refused it (watermark, or tokens per step)"


def _notes(choice: EngineChoice, workload: Workload) -> list[str]:
    notes = []
    config = choice.config
    if not choice.is_nano:
        prompts = workload.prompt_tokens.astype(np.int64)
        long = (prompts < config.max_model_len) & (
            prompts + workload.output_tokens > config.max_model_len
        )
        if long.any():
            notes.append(
                f"{int(long.sum()):,} answers end at --max-model-len {config.max_model_len:,}, "
                "before the trace's did"
            )
    block_ms = config.groups[0].block_size * choice.drive.step_ms_per_ktok / 1e3
    if config.host_blocks and config.swap == "auto" and config.host_ms_per_block > block_ms:
        notes.append(
            f"a block takes {config.host_ms_per_block:.3g} ms from the host tier, {block_ms:.3g} "
            "ms to compute again: nothing is brought back, so nothing is written (--swap always "
            "does both)"
        )
    if config.policy == "priority" and not workload.priority.any():
        notes.append("the trace has no priorities: request i gets priority i % 3")
    return notes
