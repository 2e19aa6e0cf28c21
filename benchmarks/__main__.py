"""All measurements in one command: tables on the terminal, the same figures as JSON.

python -m benchmarks --vllm-python /path/to/python/with/vllm --json bench.json
python -m benchmarks curves --peers-python .venv-peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import show, show_arena, show_copies, show_curves, show_hands, show_recorder
from benchmarks.arena import courses, needs, operations
from benchmarks.copies import copies
from benchmarks.curves import at_scale, curves, over_prefixes
from benchmarks.defrag import on_trace
from benchmarks.eyes import listening, over_snapshots
from benchmarks.hybrid import divisions
from benchmarks.machine import describe_machine
from benchmarks.memory import bytes_per_block
from benchmarks.policy_goal import goal, workloads
from benchmarks.recorder import recorder_cost
from benchmarks.side_by_side import side_by_side
from benchmarks.slope import over_blocks, over_requests
from benchmarks.startup import startup
from benchmarks.trace import ONE_AT_A_TIME_HIT_TOKENS, Trace, find_trace
from benchmarks.whole_trace import end_to_end, whole_trace

PARTS = (
    "side-by-side",
    "whole",
    "end-to-end",
    "slope",
    "memory",
    "eyes",
    "curves",
    "curve-at-scale",
    "copies",
    "arena",
    "startup",
)
ON_REQUEST = ("policies", "recorder", "defrag", "hybrid")
"""Parts that take minutes: measured when they are named."""
ONE_AT_A_TIME_BLOCKS = 96_001
_WIDTH = 110


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the settings of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (all by default), {', '.join(ON_REQUEST)}",
    )
    parser.add_argument("--trace", type=Path, help="a file in Mooncake's format")
    parser.add_argument("--vllm-python", type=Path, help="an interpreter that holds vLLM 0.32")
    parser.add_argument("--peers-python", type=Path, help="an interpreter that holds the peers")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=int, default=1_000, help="requests side by side")
    parser.add_argument("--pools", type=_sizes, default=(20_000, 200_000), help="N,N,... blocks")
    parser.add_argument("--max-requests", type=int, default=1_000_000, help="end of the slope")
    parser.add_argument("--max-blocks", type=int, default=1_000_000, help="end of the slope")
    parser.add_argument(
        "--scale-blocks", type=int, default=600_000_000, help="accesses of curve-at-scale"
    )
    parser.add_argument("--copy-mib", type=int, default=512, help="bytes of a copy, in MiB")
    settings = parser.parse_args(arguments)
    known = (*PARTS, *ON_REQUEST)
    unknown = sorted(set(settings.parts) - set(known))
    if unknown:
        parser.error(f"no such part: {unknown[0]} (of {', '.join(known)})")
    if "recorder" in settings.parts and settings.vllm_python is None:
        parser.error("recorder needs --vllm-python")
    if min(settings.repeats, settings.limit, settings.copy_mib) < 1:
        parser.error("--repeats, --limit and --copy-mib must be at least 1")
    return settings


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what was asked for; return the figures that `--json` writes."""
    settings = parse(arguments)
    console = Console(width=max(_WIDTH, Console().width))
    with tempfile.TemporaryDirectory() as folder:
        trace = find_trace(settings.trace, Path(folder))
        figures: dict[str, Any] = {"schema": 1, "machine": describe_machine(), "trace": trace.what}
        tables = [show.machine_table(figures["machine"], trace.what)]
        console.print(*tables)
        for part in settings.parts or PARTS:
            with console.status(f"measuring: {part}"):
                figures[part], measured = _measure(part, settings, trace)
            console.print(*measured)
            tables += measured
    figures = show.plain(figures)
    if settings.markdown is not None:
        settings.markdown.write_text(show.markdown(tables), encoding="utf-8")
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def _measure(part: str, settings: argparse.Namespace, trace: Trace) -> tuple[Any, list[Table]]:
    repeats = settings.repeats
    if part == "side-by-side":
        pairs = [
            side_by_side(
                trace,
                num_blocks,
                limit=settings.limit,
                repeats=repeats,
                vllm_python=settings.vllm_python,
            )
            for num_blocks in settings.pools
        ]
        return pairs, [show.side_by_side_table(pairs)]
    if part == "whole":
        rows = [whole_trace(trace, blocks, repeats=repeats) for blocks in settings.pools]
        return rows, [show.whole_trace_table(rows)]
    if part == "end-to-end":
        expected = ONE_AT_A_TIME_HIT_TOKENS if trace.is_public_conversation else None
        process = end_to_end(
            trace, num_blocks=ONE_AT_A_TIME_BLOCKS, repeats=repeats, expected_hit_tokens=expected
        )
        return process, [show.end_to_end_table(process)]
    if part == "slope":
        few = min(3, repeats)
        slopes = [
            over_requests(_decades(settings.max_requests), num_blocks=20_000, repeats=few),
            over_blocks(
                _decades(settings.max_blocks),
                num_requests=min(100_000, settings.max_requests),
                repeats=few,
            ),
        ]
        return slopes, [show.slope_table(slope) for slope in slopes]
    if part == "memory":
        sizes = [bytes_per_block(num_blocks) for num_blocks in _decades(settings.max_blocks)]
        return sizes, [show.memory_table(sizes)]
    if part == "eyes":
        with tempfile.TemporaryDirectory() as folder:
            heard = [
                listening(trace, blocks, repeats=repeats, folder=Path(folder))
                for blocks in settings.pools
            ]
        frozen = over_snapshots(_decades(settings.max_blocks), repeats=repeats)
        return {"listening": heard, "snapshot": frozen}, [
            show.listening_table(heard),
            show.slope_table(frozen),
        ]
    if part == "curves":
        beside = curves(trace, repeats=repeats, peers_python=settings.peers_python)
        grown = over_prefixes(_doublings(settings.max_requests), repeats=min(3, repeats))
        return {"beside": beside, "slope": grown}, [
            show_curves.curves_table(beside),
            show.slope_table(grown),
        ]
    if part == "curve-at-scale":
        large = at_scale(settings.scale_blocks)
        return large, [show_curves.at_scale_table(large)]
    if part == "copies":
        copied = copies(settings.copy_mib, repeats, settings.vllm_python)
        return copied, show_copies.copies_tables(copied)
    if part == "arena":
        steps = 20 * settings.limit
        timed = operations(_decades(min(100_000, settings.max_blocks)), steps=steps)
        needed = [row for course in courses(trace, steps=steps) for row in needs(course)]
        return {"operations": timed, "needs": needed}, [
            show_arena.operations_table(timed),
            show_arena.needs_table(needed),
        ]
    if part == "policies":
        goals = [each for found in workloads() for each in goal(*found)]
        return goals, [show_curves.goal_table(goals)]
    if part == "defrag":
        looked = {
            arrivals: on_trace(trace.workload, settings.pools[-1], arrivals)
            for arrivals in ("backlog", "timed")
        }
        return looked, [show_hands.moments_table(name, found) for name, found in looked.items()]
    if part == "hybrid":
        divided = divisions(trace)
        return divided, [show_hands.divisions_table(divided)]
    if part == "recorder":
        costs = [
            recorder_cost(trace, num_blocks, limit=settings.limit, vllm_python=settings.vllm_python)
            for num_blocks in settings.pools
        ]
        return costs, [show_recorder.calls_table(costs), show_recorder.pool_table(costs[0])]
    started = startup(trace, repeats=repeats)
    return started, [show.startup_table(started)]


def _decades(last: int) -> tuple[int, ...]:
    """Return 1,000, 10,000, ... up to `last`."""
    return tuple(10**power for power in range(3, 10) if 10**power <= last)


def _doublings(last: int) -> tuple[int, ...]:
    """Return 1,000, 2,000, 4,000, ... up to `last` or 128,000."""
    return tuple(1_000 * 2**power for power in range(8) if 1_000 * 2**power <= max(last, 1_000))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


if __name__ == "__main__":
    main()
