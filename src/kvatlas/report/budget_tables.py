"""What a budget lists, as texts.

Owns: columns, rows, digits and their words. Leaves to others: looks (`text_table`), every figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kvatlas.budget import Budget, Row
from kvatlas.report.budget_buffers import buffer_rows
from kvatlas.report.budget_document import BudgetDocument, LogSide
from kvatlas.report.numbers import count, mean, percent
from kvatlas.report.text_table import TextTable
from kvatlas.units import format_bytes

__all__ = [
    "budget_facts",
    "budget_subtitle",
    "flags_table",
    "groups_table",
    "lengths_table",
    "log_table",
    "stages_table",
    "waterfall_table",
]

_DASH = "–"


def budget_subtitle(found: Budget) -> str:
    """Return the line under the model's name: devices, ranks, the largest step."""
    parallel = found.request.parallel
    spread = [
        f"{name} {size}"
        for name, size in (("TP", parallel.tp), ("PP", parallel.pp), ("DP", parallel.dp))
        if size > 1
    ]
    return " · ".join(
        (
            f"{parallel.devices} × {found.request.device.title}",
            *spread,
            f"steps of {found.max_num_batched_tokens:,} tokens, {found.max_num_seqs:,} requests",
        )
    )


def waterfall_table(found: Budget) -> TextTable:
    """Return the device's memory, term by term."""
    waterfall, buffers = found.tightest.waterfall, found.request.buffers
    total = waterfall.total_bytes
    device = found.request.device
    given = waterfall.kv_basis == "given"
    rows = [
        (f"{device.title}", total, "reported" if device.reported else "nominal", device.source),
        ("not requested", waterfall.requested_bytes - total, "exact", "left to others"),
        *((term.name, -term.size_bytes, term.basis, term.how) for term in waterfall.terms),
        (
            "KV cache",
            waterfall.kv_bytes,
            waterfall.kv_basis,
            "--kv-cache-memory-bytes" if given else "what is left",
        ),
    ]
    if given:
        rows.remove(rows[1])
    marked = len(rows) - 1
    rows += buffer_rows(buffers)
    return TextTable(
        title="Memory of one device",
        remark=_stage_remark(found),
        columns=("", "memory", "share", "basis", "how"),
        rows=tuple(
            (name, format_bytes(size), percent(abs(size) / total), basis, how)
            for name, size, basis, how in rows
        ),
        words=frozenset({0, 3, 4}),
        marked=frozenset({0, marked}),
        note="exact: from shapes and settings; estimated: by the formula beside it; buffers are "
        "against fragmentation, and not part of vLLM's arithmetic"
        if buffers.recommended_bytes
        else "exact: from shapes and settings; estimated: by the formula beside it",
    )


def _stage_remark(found: Budget) -> str:
    if len(found.stages) == 1:
        return ""
    stage = found.tightest.stage
    return f"pipeline stage {stage.rank} of {len(found.stages)}, which holds the fewest blocks"


def stages_table(found: Budget) -> TextTable:
    """Return the pipeline stages, nothing for a single one."""
    rows = tuple(
        (
            str(each.stage.rank),
            f"{each.stage.layers[0]} to {each.stage.layers[1] - 1}",
            format_bytes(each.stage.weight_bytes),
            format_bytes(each.waterfall.kv_bytes),
            count(each.num_blocks),
        )
        for each in found.stages
        if len(found.stages) > 1
    )
    return TextTable(
        title="Pipeline stages",
        columns=("stage", "layers", "weights", "KV cache", "blocks"),
        rows=rows,
        marked=frozenset({found.tightest.stage.rank}),
    )


def groups_table(found: Budget) -> TextTable:
    """Return the KV cache groups: equal ones in one row."""
    times = Counter(found.groups)
    rows = []
    for group, often in times.items():
        share = group.padding_bytes / (group.used_bytes + group.padding_bytes)
        rows.append(
            (
                group.kind,
                f"{often} × {group.layers}" if often > 1 else str(group.layers),
                count(group.block_size),
                count(group.window_tokens) if group.window_tokens else _DASH,
                format_bytes(group.token_bytes) if group.token_bytes else "a state",
                format_bytes(group.used_bytes),
                percent(share) if group.padding_bytes else _DASH,
            )
        )
    return TextTable(
        title="KV cache groups",
        remark="bytes of one rank",
        columns=("kind", "layers", "block", "window", "per token", "per block", "padding"),
        rows=tuple(rows),
        note="block: tokens; padding: of each block, holds nothing",
    )


def lengths_table(document: BudgetDocument) -> TextTable:
    """Return how many requests of each length have room."""
    return TextTable(
        title="Requests that have room",
        remark="prompt and output together, nothing shared",
        columns=("tokens", "blocks each", "at the same time", "vLLM's figure"),
        rows=tuple(
            (count(each.tokens), count(each.blocks), count(each.requests),
             f"{mean(each.concurrency)}×")
            for each in document.fits
        ),
        words=frozenset(),
    )  # fmt: skip


def flags_table(document: BudgetDocument) -> TextTable:
    """Return vLLM's flags."""
    return TextTable(
        title="vLLM's flags",
        columns=("", "value", "why"),
        rows=tuple(
            (("or " if flag.alternative else "") + flag.name, flag.value, flag.why)
            for flag in document.flags
        ),
        words=frozenset({0, 2}),
    )


def log_table(side: LogSide) -> TextTable:
    """Return the predicted waterfall beside the real one."""
    return TextTable(
        title="Beside the log",
        remark=f"vLLM {side.version}" if side.version else "",
        columns=("", "predicted", "real", "difference"),
        rows=tuple(
            (row.name, _figure(row, row.predicted), _figure(row, row.real), _difference(row))
            for row in side.rows
        ),
        note="– is not known; a log prints GiB with two decimals",
    )


def _figure(row: Row, value: int | None) -> str:
    if value is None:
        return _DASH
    return format_bytes(value) if row.unit == "bytes" else count(value)


def _difference(row: Row) -> str:
    if row.predicted is None or row.real is None:
        return _DASH
    change = row.real - row.predicted
    text = format_bytes(change) if row.unit == "bytes" else f"{change:,}"
    return text if change < 0 else f"+{text}"


def budget_facts(document: BudgetDocument) -> Iterator[tuple[str, str]]:
    """Yield the figures that need no table."""
    found = document.found
    parts = ", ".join(
        f"{part} {percent(size / found.parameters)}"
        for part, size in found.part_parameters.items()
        if size / found.parameters >= 0.005
    )
    yield "Parameters", f"{found.parameters:,} ({parts})"
    stored = found.quantization
    if stored.parts:
        yield "Stored", f"{', '.join(sorted(stored.parts))}: {stored.bits} bits ({stored.name})"
    pool = found.pool
    if pool.num_blocks:
        tokens = pool.capacity_tokens(found.max_model_len)
        yield (
            "KV cache",
            f"{pool.num_blocks:,} blocks of {found.block_size:,} tokens; vLLM will say "
            f"{tokens:,} tokens, {pool.concurrency(found.max_model_len):.2f}x at "
            f"{found.max_model_len:,}",
        )
    if found.request.buffers.recommended_bytes:
        yield "With the buffer", f"{found.blocks_after_buffer:,} blocks"
    yield "Per token", f"{format_bytes(found.token_bytes)} on each rank"
    if found.capture_sizes:
        yield (
            "CUDA graphs",
            f"{len(found.capture_sizes)} batch sizes up to {found.capture_sizes[-1]:,}",
        )
    yield "Command", document.command
    if document.replay:
        yield "Replay", document.replay
