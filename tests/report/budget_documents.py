"""Budgets to draw: one that fits, beside a log in which vLLM counts its graphs twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvatlas.budget import (
    BudgetRequest,
    Measured,
    RecordedLoad,
    budget,
    command_line,
    compare,
    find_device,
    length_fits,
    replay_line,
    verdict,
    vllm_flags,
)
from kvatlas.report.budget_document import BudgetDocument, LogSide

GIB, MIB = 1 << 30, 1 << 20
LOAD = RecordedLoad(
    file="snapshot.pickle",
    device=0,
    events=1200,
    identical=True,
    settings="",
    peak_reserved_bytes=30 * GIB,
    peak_allocated_bytes=28 * GIB,
    peak_stuck_bytes=3 * GIB,
    idle_bytes=0,
    survival_bytes=29 * GIB,
    survival_retries=3,
    failures=0,
    unverified=("a limited capacity: not verified on recordings",),
)
REAL = Measured(
    worker="EngineCore",
    total_bytes=79 * GIB,
    requested_bytes=72 * GIB,
    weight_bytes=15 * GIB,
    outside_bytes=GIB // 2,
    activation_bytes=2 * GIB,
    graph_bytes=3 * GIB,
    graph_actual_bytes=GIB,
    kv_bytes=51 * GIB,
    suggested=(47 * GIB, 52 * GIB),
    corrected=(50 * GIB, 55 * GIB),
)


def budget_document(*, real: Measured | None = REAL, **changes: Any) -> BudgetDocument:
    """Return a budget of an 8B model on an H100, with a log's figures and a replayed load."""
    asked = BudgetRequest(model="qwen3-8b", device=find_device("h100"), buffers=LOAD.buffers())
    found = budget(replace(asked, **changes))
    side = None
    if real is not None:
        note = "vLLM counts 3.00 GiB of CUDA graphs twice"
        side = LogSide("vllm.log", "0.32.0", real, compare(found, real), (note,))
    return BudgetDocument(
        version="1.2.3",
        config={"model": "qwen3-8b", "snapshot_device": None},
        found=found,
        verdict=verdict(found),
        fits=length_fits(found),
        flags=vllm_flags(found),
        command=command_line(found),
        replay=replay_line(found),
        log=side,
        load=LOAD,
    )
