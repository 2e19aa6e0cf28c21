"""The tables that `python -m benchmarks` prints, and the same figures as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from rich.table import Table

from benchmarks.eyes import Listening
from benchmarks.memory import Bytes
from benchmarks.side_by_side import SideBySide
from benchmarks.slope import Slope
from benchmarks.startup import Startup
from benchmarks.whole_trace import EndToEnd, WholeTrace


def plain(value: Any) -> Any:
    """Return `value` as JSON holds it: dataclasses become dicts, their properties included."""
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        derived = [name for name, what in vars(type(value)).items() if isinstance(what, property)]
        return held | {name: plain(getattr(value, name)) for name in derived}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables as the documentation shows them."""
    lines: list[str] = []
    for table in tables:
        headers = [str(column.header) for column in table.columns]
        cells = [[str(cell) for cell in column.cells] for column in table.columns]
        lines += [f"**{table.title}**", "", "| " + " | ".join(headers) + " |"]
        marks = ["---:" if column.justify == "right" else "---" for column in table.columns]
        lines.append("| " + " | ".join(marks) + " |")
        lines += ["| " + " | ".join(row) + " |" for row in zip(*cells, strict=True)]
        lines.append("")
    return "\n".join(lines)


def machine_table(machine: dict[str, str | int | float], trace: str) -> Table:
    """Return the machine, one fact per row."""
    table = titled("Measured on", "", "")
    for name, value in machine.items():
        table.add_row(name.replace("_gib", ", GiB").replace("_", " "), str(value))
    table.add_row("trace", trace)
    return table


def side_by_side_table(rows: Sequence[SideBySide]) -> Table:
    """Return both engines' speed and the ratio."""
    table = titled(
        f"The first {rows[0].requests:,} requests: kvatlas beside the real vLLM scheduler",
        "blocks",
        "tokens",
        "kvatlas",
        "tokens/s",
        "vLLM",
        "tokens/s",
        "ratio",
        "same decisions",
    )
    for row in rows:
        table.add_row(
            f"{row.num_blocks:,}",
            f"{row.scheduled_tokens:,}",
            str(row.kvatlas),
            _millions(row.tokens_per_s),
            "-" if row.vllm is None else str(row.vllm),
            "-" if row.vllm_tokens_per_s is None else _millions(row.vllm_tokens_per_s),
            "-" if row.ratio is None else f"{row.ratio:.0f} x",
            {None: "-", True: "yes", False: "NO"}[row.same_decisions],
        )
    return table


def whole_trace_table(rows: Sequence[WholeTrace]) -> Table:
    """Return the engine's speed on the whole trace."""
    table = titled(
        "The whole trace, engine alone",
        "blocks",
        "steps",
        "tokens",
        "median",
        "range",
        "tokens/s",
        "blocks/s",
    )
    for row in rows:
        table.add_row(
            f"{row.num_blocks:,}",
            f"{row.steps:,}",
            f"{row.scheduled_tokens:,}",
            str(row.engine),
            row.engine.range,
            _millions(row.tokens_per_s),
            _millions(row.blocks_per_s),
        )
    return table


def end_to_end_table(row: EndToEnd) -> Table:
    """Return the time of the whole process."""
    command = f"kvatlas replay --blocks {row.num_blocks} --max-num-seqs 1, the whole process"
    table = titled(command, "what", "", "")
    expected = row.expected_hit_tokens
    agrees = "" if expected is None else "as vLLM" if expected == row.hit_tokens else "NOT AS VLLM"
    table.add_row("from start to exit", str(row.process), row.process.range)
    for stage, seconds in row.stages.items():
        table.add_row(f"  of the last run, {stage.removesuffix('_s')}", f"{seconds:.3f} s", "")
    table.add_row("hit tokens", f"{row.hit_tokens:,}", agrees)
    return table


def slope_table(slope: Slope) -> Table:
    """Return the cost per token at each size, and the exponent."""
    table = titled(
        f"Cost per {slope.per} as {slope.grows} grow: exponent {slope.exponent:+.3f} (0 is flat)",
        slope.grows,
        f"{slope.per}s",
        f"ns per {slope.per}",
    )
    for point in slope.points:
        table.add_row(f"{point.size:,}", f"{point.units:,}", f"{point.ns_per_unit:.1f}")
    return table


def memory_table(rows: Sequence[Bytes]) -> Table:
    """Return the bytes per block."""
    table = titled(
        "Memory of the engine", "blocks", "pool, B per block", "index, B per block", "tables, MiB"
    )
    for row in rows:
        table.add_row(
            f"{row.num_blocks:,}",
            f"{row.pool_per_block:.1f}",
            f"{row.index_per_block:.1f}",
            f"{row.tables_total / 2**20:.1f}",
        )
    return table


def startup_table(row: Startup) -> Table:
    """Return what a user waits for."""
    table = titled("Before the first result", "what", "median", "range")
    for what, seconds in (
        ("kvatlas --help", row.help),
        ("reading the trace", row.load),
        ("importing the engine (NumPy, Numba)", row.imports),
        ("compiling its kernels, once per version", row.compile),
        ("loading them when compiled", row.from_cache),
    ):
        table.add_row(what, str(seconds), seconds.range)
    return table


def titled(title: str, *columns: str) -> Table:
    """Return an empty table: the first column to the left, figures to the right."""
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right")
    return table


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.0f} M"


def listening_table(rows: Sequence[Listening]) -> Table:
    """Return what listening to a replay of the whole trace costs, and what its events tell."""
    table = titled(
        "Listening: the whole trace recorded to Parquet, tracked, measured",
        "blocks",
        "events",
        "block ids",
        "file, MB",
        "replay",
        "recorded",
        "added",
        "tracker",
        "of recorded",
        "exact tracker",
        "all measurements",
    )
    for row in rows:
        table.add_row(
            f"{row.num_blocks:,}",
            f"{row.events:,}",
            f"{row.block_ids:,}",
            f"{row.file_bytes / 1e6:.1f}",
            str(row.plain),
            str(row.recorded),
            f"{100 * row.recording_over_plain:.0f}%",
            str(row.tracked),
            f"{100 * row.tracking_over_recorded:.0f}%",
            str(row.tracked_exactly),
            str(row.measured),
        )
    return table
