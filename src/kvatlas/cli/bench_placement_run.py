"""`kvatlas bench placement`: what it does, from flags to reports.

Owns: the order of things, the exit code. Leaves to others: the comparison and its verdict
(`kvatlas.plan.placement`), views (`kvatlas.report`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvatlas.cli.bench_placement_flags import PlacementFlags
from kvatlas.cli.capacity_input import (
    check_counts,
    check_outputs,
    engine_of,
    naming_capacity_flags,
    open_trace,
    require_somebody,
    said_flags,
)
from kvatlas.cli.capacity_lists import list_parts
from kvatlas.cli.curve_run import write_views
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.cli.stopwatch import Stopwatch

if TYPE_CHECKING:
    from kvatlas.engine import DriveConfig, EngineConfig
    from kvatlas.plan.placement import PlacementComparison
    from kvatlas.report.placement_document import PlacementDocument
    from kvatlas.workload import Workload

__all__ = ["run_placement"]

_COUNTS = (
    "block_size",
    "blocks",
    "page_blocks",
    "copy_blocks",
    "max_num_seqs",
    "max_num_batched_tokens",
)


def run_placement(flags: PlacementFlags) -> int:
    """Compare policies, write and print the reports, return the exit code. Raises: InputError."""
    check_counts(flags, _COUNTS)
    check_outputs(flags)
    try:
        document = _document(flags)
    except KeyboardInterrupt:
        document = None
    if document is None or not document.open_loop:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    whole = document
    from kvatlas.report.placement_html import placement_html
    from kvatlas.report.placement_json import placement_csv, placement_json
    from kvatlas.report.placement_terminal import print_placement

    write_views(
        flags,
        json=lambda: placement_json(whole),
        csv=lambda: placement_csv(whole),
        html=lambda: placement_html(whole),
        show=lambda console: print_placement(console, whole),
    )
    return INTERRUPTED if whole.partial else 0


def _document(flags: PlacementFlags) -> PlacementDocument:
    names = _names(flags)
    config, drive = engine_of(flags)
    from kvatlas.cli.replay_summary import said_workload
    from kvatlas.cli.version import version
    from kvatlas.plan.placement import PlacementComparison, open_loop, pool_size
    from kvatlas.plan.placement_verdict import placement_verdict
    from kvatlas.report.placement_document import PlacementDocument

    with Stopwatch() as watch, Interrupts() as interrupts:
        watch.watch_compiler()
        watch.startup_is_over()
        with watch.stage("load_s"):
            workload = open_trace(flags)
        blocks, why = pool_size(workload, flags.block_size)
        if flags.blocks is not None:
            blocks, why = flags.blocks, "as asked for by --blocks"
        with naming_capacity_flags():
            config = config.with_(num_blocks=blocks)
            require_somebody(*open_loop(workload, config)[:2])
        with watch.stage("open_loop_s"):
            alone = _compare(flags, workload, config, None, names, interrupts)
        loaded = PlacementComparison(())
        if flags.scheduler and not alone.partial:
            with watch.stage("scheduler_s"):
                loaded = _compare(flags, workload, config, drive, names, interrupts)
        timing = {**watch.stages, "compile_s": watch.compile_s, "total_s": watch.total_s}
    return PlacementDocument(
        title=workload.name,
        version=version(),
        config=said_flags(flags),
        workload=said_workload(workload),
        num_blocks=blocks,
        pool_note=why,
        open_loop=alone.rows,
        scheduler=loaded.rows,
        verdict=placement_verdict(alone.rows, loaded.rows),
        notes=workload.notes,
        timing=timing,
        partial=alone.partial or loaded.partial,
    )


def _names(flags: PlacementFlags) -> list[str] | None:
    """Return the policies of the list, None without one. Raises: InputError for one that is not."""
    if flags.policies is None:
        return None
    from kvatlas.placement import placement_policy

    with naming_capacity_flags():
        return [placement_policy(name).name for name in list_parts(flags.policies, "--policies")]


def _compare(
    flags: PlacementFlags,
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig | None,
    names: list[str] | None,
    interrupts: Interrupts,
) -> PlacementComparison:
    from kvatlas.plan.placement import compare_placements

    with naming_capacity_flags(), ProgressLine("replaying", None, "requests") as progress:
        return compare_placements(
            workload,
            config,
            names,
            drive=drive,
            blocks_per_page=flags.page_blocks,
            blocks_per_copy=flags.copy_blocks,
            on_progress=lambda done, total, title: progress.update(
                done, total, f"replaying {title}"
            ),
            should_stop=lambda: interrupts.wanted,
        )
