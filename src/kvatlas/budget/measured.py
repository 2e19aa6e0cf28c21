"""The real waterfall of a server, from its start-up log, beside the predicted one.

Owns: how the log's figures add up, what vLLM counts twice, which settings differ from those of the
prediction. Leaves to others: reading the log (`startup_log`), the prediction (`plan`).

vLLM 0.32 takes the CUDA graphs off twice in the `--kv-cache-memory` that it suggests:
github.com/vllm-project/vllm/issues/57936.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kvatlas.budget.log_lines import LogFacts
from kvatlas.budget.plan import Budget
from kvatlas.budget.request import BudgetRequest
from kvatlas.budget.startup_log import StartupLog

__all__ = ["Measured", "Row", "compare", "log_notes", "measured", "with_measured"]

_GIB = 1 << 30
_ROUNDING_GIB = 0.035
"""Seven figures of two decimals each may add up to this much more or less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One worker's figures, in bytes; what the log does not say is None.

    Attributes:
        worker: its name in the log.
        total_bytes, requested_bytes, free_at_start_bytes: of the device.
        weight_bytes, outside_bytes: apart where the log tells them apart.
        activation_bytes: without the graphs' estimate.
        graph_bytes: what was taken off for graphs; `graph_actual_bytes`: what they took.
        kv_bytes, kv_tokens, max_len, concurrency, num_blocks: of the KV cache.
        suggested: vLLM's `--kv-cache-memory`, within the share and at most.
        corrected: the same, with the graphs counted once; None where they are.
    """

    worker: str
    total_bytes: int | None = None
    requested_bytes: int | None = None
    free_at_start_bytes: int | None = None
    weight_bytes: int | None = None
    outside_bytes: int | None = None
    activation_bytes: int | None = None
    graph_bytes: int | None = None
    graph_actual_bytes: int | None = None
    kv_bytes: int | None = None
    kv_tokens: int | None = None
    max_len: int | None = None
    concurrency: float | None = None
    num_blocks: int | None = None
    suggested: tuple[int, int] | None = None
    corrected: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, predicted and real; None where one of them is not known."""

    name: str
    predicted: int | None
    real: int | None
    unit: str = "bytes"


def measured(log: StartupLog) -> Measured:
    """Return the worker with the least KV cache; what only others said is taken from them."""
    shared = LogFacts()
    for facts in log.workers.values():
        _fill(shared, facts)
    worker = min(
        log.workers, key=lambda name: log.workers[name].gib.get("kv", float("inf")), default=""
    )
    own = LogFacts()
    _fill(own, log.workers.get(worker, LogFacts()))
    _fill(own, shared)
    return _measured(worker, own)


def _fill(facts: LogFacts, other: LogFacts) -> None:
    """Put into `facts` what it lacks and `other` has."""
    for name, value in other.gib.items():
        facts.gib.setdefault(name, value)
    for name in (
        "utilization",
        "suggested",
        "graphs_in_budget",
        "kv_tokens",
        "max_len",
        "concurrency",
        "num_blocks",
        "block_size",
    ):
        if getattr(facts, name) is None:
            setattr(facts, name, getattr(other, name))


def _measured(worker: str, facts: LogFacts) -> Measured:
    gib = facts.gib
    requested = gib.get("requested")
    if requested is None and facts.utilization is not None and "total" in gib:
        requested = gib["total"] * facts.utilization
    outside = gib.get("outside")
    if outside is None and "consumed" in gib and "weights" in gib:
        outside = gib["consumed"] - gib["weights"]
    twice = _counted_twice(facts, requested)
    activation = gib.get("peak_activation")
    estimate = gib.get("graph_estimate")
    if activation is not None and estimate is not None and twice:
        activation -= estimate
    applied = estimate if facts.graphs_in_budget is not False else 0.0
    corrected = None
    if facts.suggested is not None and twice and estimate is not None:
        added = round(estimate * _GIB)
        corrected = (facts.suggested[0] + added, facts.suggested[1] + added)
    return Measured(
        worker=worker,
        total_bytes=_bytes(gib.get("total")),
        requested_bytes=_bytes(requested),
        free_at_start_bytes=_bytes(gib.get("free_at_start")),
        weight_bytes=_bytes(gib.get("weights")),
        outside_bytes=_bytes(outside),
        activation_bytes=_bytes(activation),
        graph_bytes=_bytes(applied),
        graph_actual_bytes=_bytes(gib.get("graphs")),
        kv_bytes=_bytes(gib.get("kv", gib.get("kv_used"))),
        kv_tokens=facts.kv_tokens,
        max_len=facts.max_len,
        concurrency=facts.concurrency,
        num_blocks=facts.num_blocks,
        suggested=facts.suggested,
        corrected=corrected,
    )


def _counted_twice(facts: LogFacts, requested: float | None) -> bool:
    """Whether the printed peak of activations holds the graphs' estimate.

    Then requested - consumed - peak is the KV cache that was allocated; otherwise the estimate has
    to be taken off as well.
    """
    gib = facts.gib
    names = ("consumed", "peak_activation", "graph_estimate")
    kv = gib.get("kv", gib.get("kv_used"))
    if requested is None or kv is None or any(name not in gib for name in names):
        return False
    if gib["graph_estimate"] <= _ROUNDING_GIB or facts.graphs_in_budget is False:
        return False
    left = requested - gib["consumed"] - gib["peak_activation"]
    return abs(left - kv) <= _ROUNDING_GIB


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else round(gib * _GIB)


def with_measured(request: BudgetRequest, real: Measured) -> BudgetRequest:
    """Return the request with what the log measured in the place of estimates.

    What the request has already, and what the log does not say, stays; nothing below 0 is taken
    (graphs may give memory back).
    """
    said = {
        "activation_bytes": real.activation_bytes,
        "graph_bytes": real.graph_bytes,
        "outside_bytes": real.outside_bytes,
        "loaded_bytes": real.weight_bytes,
    }
    taken: dict[str, Any] = {
        name: max(0, size)
        for name, size in said.items()
        if size is not None and getattr(request, name) is None
    }
    return replace(request, **taken, from_log=frozenset(taken))


def compare(found: Budget, real: Measured) -> tuple[Row, ...]:
    """Return the rows of both waterfalls, in the order of the predicted one."""
    return tuple(_rows(found, real))


def _rows(found: Budget, real: Measured) -> Iterator[Row]:
    waterfall = found.tightest.waterfall
    terms = {term.name: term.size_bytes for term in waterfall.terms}
    yield Row(name="device", predicted=waterfall.total_bytes, real=real.total_bytes)
    yield Row(name="requested", predicted=waterfall.requested_bytes, real=real.requested_bytes)
    yield Row(name="weights", predicted=found.tightest.stage.weight_bytes, real=real.weight_bytes)
    yield Row(name="outside PyTorch", predicted=terms["outside PyTorch"], real=real.outside_bytes)
    yield Row(name="activations", predicted=terms["activations"], real=real.activation_bytes)
    yield Row(name="CUDA graphs", predicted=terms["CUDA graphs"], real=real.graph_bytes)
    if real.graph_actual_bytes is not None:
        yield Row(name="CUDA graphs, captured", predicted=None, real=real.graph_actual_bytes)
    yield Row(name="KV cache", predicted=waterfall.kv_bytes, real=real.kv_bytes)
    if found.pool.num_blocks:
        predicted = found.pool.capacity_tokens(real.max_len or found.max_model_len)
        yield Row(name="KV tokens", predicted=predicted, real=real.kv_tokens, unit="tokens")
    if real.num_blocks is not None:
        yield Row(
            name="blocks", predicted=found.pool.num_blocks, real=real.num_blocks, unit="blocks"
        )


def log_notes(found: Budget, log: StartupLog, real: Measured) -> Iterator[str]:
    """Yield what a reader must know: what vLLM counts twice, and settings that differ."""
    if real.corrected is not None and real.suggested is not None:
        graphs = (real.corrected[0] - real.suggested[0]) / _GIB
        yield (
            f"vLLM counts {graphs:.2f} GiB of CUDA graphs twice in the --kv-cache-memory that it "
            f"suggests (vLLM issue #57936): give {real.corrected[0]} instead of "
            f"{real.suggested[0]}, or at most {real.corrected[1]} instead of {real.suggested[1]}"
        )
    if real.graph_bytes is not None and real.graph_actual_bytes is not None:
        more = real.graph_bytes - real.graph_actual_bytes
        if more > _GIB // 4:
            yield (
                f"{more / _GIB:.2f} GiB more were taken off the KV cache for CUDA graphs than they "
                "took (vLLM issue #45178); VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0 gives them "
                "back, with nothing then held free for graphs"
            )
    if log.runner is not None and log.runner != found.request.runner.partition("-")[0]:
        yield (
            f"the log is of model runner {log.runner}, the prediction of {found.request.runner}: "
            "their profile runs sample with different amounts of memory (--model-runner)"
        )
    if log.starts > 1:
        yield f"the log holds {log.starts} starts of a server: these are the figures of the last"
    if len(log.workers) > 1:
        yield f"of {len(log.workers)} processes in the log, the one with the least KV cache"
    yield from _differences(found, log, real)


def _differences(found: Budget, log: StartupLog, real: Measured) -> Iterator[str]:
    request, parallel = found.request, found.request.parallel
    eager = "True" if request.enforce_eager else "False"
    for name, predicted in (
        ("tensor_parallel_size", str(parallel.tp)),
        ("pipeline_parallel_size", str(parallel.pp)),
        ("data_parallel_size", str(parallel.dp)),
        ("max_seq_len", str(found.max_model_len)),
        ("enforce_eager", eager),
    ):
        said = log.config.get(name)
        if said is not None and said != predicted:
            yield f"the log's {name} is {said[:60]}, the prediction's {predicted}"
    share = next(
        (facts.utilization for facts in log.workers.values() if facts.utilization is not None),
        None,
    )
    if share is not None and abs(share - request.gpu_memory_utilization) > 5e-5:
        yield (
            f"the log's gpu_memory_utilization is {share:g}, the prediction's "
            f"{request.gpu_memory_utilization:g}"
        )
    if real.total_bytes is not None:
        apart = abs(real.total_bytes - request.device.total_bytes)
        if apart > request.device.total_bytes // 100:
            yield "the log's device has another size than the prediction's"
