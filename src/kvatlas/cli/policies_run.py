"""`kvatlas policies`: what it does, from flags to reports.

Owns: the order of things, which capacities are looked at, the exit code. Leaves to others: the
comparison and its verdict (`kvatlas.plan.policies`), views (`kvatlas.report`), Ctrl-C
(`capacity_study`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvatlas.cli.capacity_input import (
    check_flags,
    check_outputs,
    engine_of,
    naming_capacity_flags,
    open_trace,
    said_flags,
)
from kvatlas.cli.capacity_lists import parse_capacities, parse_names, replay_capacities
from kvatlas.cli.curve_run import write_views
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.policies import PoliciesFlags
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.cli.stopwatch import Stopwatch

if TYPE_CHECKING:
    from kvatlas.cli.capacity_study import Stopped
    from kvatlas.measure.curves import CapacityStudy
    from kvatlas.plan.policies import PolicyComparison
    from kvatlas.report.curve_document import EnginePoint, PoliciesDocument

__all__ = ["run_policies"]

_POINTS = 9


def run_policies(flags: PoliciesFlags) -> int:
    """Compare policies, write and print the reports, return the exit code. Raises: InputError."""
    check_flags(flags)
    check_outputs(flags)
    try:
        document = _document(flags)
    except KeyboardInterrupt:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    from kvatlas.report.capacity_csv import policies_csv
    from kvatlas.report.policies_html import policies_html
    from kvatlas.report.policies_json import policies_json
    from kvatlas.report.policies_terminal import print_policies

    write_views(
        flags,
        json=lambda: policies_json(document),
        csv=lambda: policies_csv(document),
        html=lambda: policies_html(document),
        show=lambda console: print_policies(console, document),
    )
    return INTERRUPTED if document.partial else 0


def _document(flags: PoliciesFlags) -> PoliciesDocument:
    asked, names = parse_capacities(flags.capacities), parse_names(flags.policies)
    engine_of(flags)  # its mistakes are told before the work
    from kvatlas.cli.capacity_study import Stopped, walk
    from kvatlas.cli.replay_summary import said_workload
    from kvatlas.cli.version import version
    from kvatlas.plan.policies import verdict
    from kvatlas.report.curve_document import PoliciesDocument

    with Stopwatch() as watch, Interrupts() as interrupts:
        stopped = Stopped(interrupts)
        watch.watch_compiler()
        watch.startup_is_over()
        with watch.stage("load_s"):
            workload = open_trace(flags)
        with watch.stage("curve_s"):
            study = walk(workload, flags.block_size, stopped, count_partial=flags.count_partial)
            capacities = _capacities(flags, study, asked)
        with watch.stage("policies_s"):
            comparison = _compare(study, capacities, names, stopped)
        focus = flags.blocks or max(1, study.knee_blocks)
        if focus not in capacities:  # a list was asked for: what lies nearest in it
            focus = min(capacities, key=lambda blocks: abs(blocks - focus))
        engine: dict[str, tuple[EnginePoint, ...]] = {}
        if flags.replays and not stopped:
            with watch.stage("engine_s"):
                at = replay_capacities(flags.replays, [focus], capacities)
                engine = _replays(flags, study, comparison, at, stopped)
        timing = {**watch.stages, "compile_s": watch.compile_s, "total_s": watch.total_s}
    return PoliciesDocument(
        title=workload.name,
        version=version(),
        config=said_flags(flags),
        workload=said_workload(workload),
        capacity_blocks=comparison.capacity_blocks,
        queried_blocks=study.lru.queried_blocks,
        queried_tokens=study.lru.queried_tokens,
        knee_blocks=study.knee_blocks,
        rows=comparison.rows,
        engine=engine,
        verdict=verdict(comparison, study.lru.queried_blocks, focus),
        notes=workload.notes,
        timing=timing,
        partial=stopped.why,
    )


def _capacities(flags: PoliciesFlags, study: CapacityStudy, asked: list[int] | None) -> list[int]:
    from kvatlas.measure.curves import spread

    extra = set() if flags.blocks is None else {flags.blocks}
    if asked is not None:
        return sorted({*asked, *extra})
    whole = spread(study.lru.blocks, _POINTS).tolist()
    return sorted({*whole, max(1, study.knee_blocks), *extra})


def _compare(
    study: CapacityStudy, capacities: list[int], names: list[str] | None, stopped: Stopped
) -> PolicyComparison:
    from kvatlas.plan.policies import compare_policies

    if stopped:  # the study is of a part, and what is simulated must be of the same
        return compare_policies(study, capacities, ())
    with naming_capacity_flags(), ProgressLine("simulating", None, "simulations") as progress:
        comparison = compare_policies(
            study,
            capacities,
            names,
            on_progress=lambda done, total, title: progress.update(done, total, title),
            should_stop=stopped.asked,
        )
    if comparison.partial:
        stopped.note(comparison.partial.removeprefix("interrupted").lstrip(": "))
    return comparison


def _replays(
    flags: PoliciesFlags,
    study: CapacityStudy,
    comparison: PolicyComparison,
    capacities: list[int],
    stopped: Stopped,
) -> dict[str, tuple[EnginePoint, ...]]:
    """Return the engine's points with each policy, as far as it came before Ctrl-C."""
    from kvatlas.cli.capacity_study import replay_engine

    config, drive = engine_of(flags)
    found = {}
    for row in comparison.rows:
        if row.kind != "policy" or stopped:
            continue
        chosen = config.with_(eviction_policy=row.name)
        points = replay_engine(
            study.workload, capacities, chosen, drive, stopped, f"replaying {row.title}"
        )
        if points:
            found[row.name] = points
    return found
