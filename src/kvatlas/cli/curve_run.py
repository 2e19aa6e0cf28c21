"""`kvatlas curve`: what it does, from flags to reports.

Owns: the order of things, which capacities are looked at, the exit code. Leaves to others: figures
(`kvatlas.measure.curves`), advice (`kvatlas.plan.capacity`), views (`kvatlas.report`), Ctrl-C
(`capacity_study`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvatlas.cli.capacity_flags import StudyFlags
from kvatlas.cli.capacity_input import (
    bytes_per_block,
    check_flags,
    check_outputs,
    engine_of,
    open_trace,
    said_flags,
    tier_sizes,
)
from kvatlas.cli.capacity_lists import parse_capacities, parse_targets, replay_capacities
from kvatlas.cli.curve import CurveFlags
from kvatlas.cli.files import STDOUT, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.cli.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rich.console import Console

    from kvatlas.cli.capacity_study import Stopped
    from kvatlas.measure.curves import CapacityStudy
    from kvatlas.report.curve_document import CurveDocument, EnginePoint, Mark

__all__ = ["document_of", "run_curve", "write_views"]

_ALONE = (
    "a prefix cache alone, requests one after another: what running requests pin is left out; "
    "--replays shows the engine itself"
)


def run_curve(flags: CurveFlags) -> int:
    """Measure one trace, write and print its reports, return the exit code. Raises: InputError."""
    check_flags(flags)
    check_outputs(flags)
    try:
        document = document_of(flags)
    except KeyboardInterrupt:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    from kvatlas.report.capacity_csv import curve_csv
    from kvatlas.report.curve_html import curve_html
    from kvatlas.report.curve_json import curve_json
    from kvatlas.report.curve_terminal import print_curve

    write_views(
        flags,
        json=lambda: curve_json(document),
        csv=lambda: curve_csv(document),
        html=lambda: curve_html(document),
        show=lambda console: print_curve(console, document),
    )
    return INTERRUPTED if document.partial else 0


def write_views(
    flags: StudyFlags,
    *,
    json: Callable[[], bytes],
    csv: Callable[[], bytes],
    html: Callable[[], bytes],
    show: Callable[[Console], None],
) -> None:
    """Write what was asked for, print the rest. Raises: InputError."""
    for path, flag, content in (
        (flags.json, "--json", json),
        (flags.csv, "--csv", csv),
        (flags.html, "--html", html),
    ):
        if path is not None:
            write_output(path, content(), flag)
    if STDOUT not in (flags.json, flags.csv):
        from kvatlas.report.console import make_console

        show(make_console())


def document_of(flags: CurveFlags) -> CurveDocument:
    """Return everything that the views show. Raises: InputError."""
    asked, targets, sizes = (
        parse_capacities(flags.capacities),
        parse_targets(flags.target),
        tier_sizes(flags),
    )
    block_bytes, notes = bytes_per_block(flags)
    config, drive = engine_of(flags)
    from kvatlas.cli.capacity_study import Stopped, make_table, replay_engine, walk
    from kvatlas.cli.replay_summary import said_workload
    from kvatlas.cli.version import version
    from kvatlas.plan.capacity import (
        POINTS,
        SHARES_OF_CEILING,
        advise,
        bounds_at,
        headline,
        marks,
    )
    from kvatlas.report.curve_document import CurveDocument

    with Stopwatch() as watch, Interrupts() as interrupts:
        stopped = Stopped(interrupts)
        watch.watch_compiler()
        watch.startup_is_over()
        with watch.stage("load_s"):
            workload = open_trace(flags)
        with watch.stage("curve_s"):
            study = walk(
                workload,
                flags.block_size,
                stopped,
                count_partial=flags.count_partial,
                with_outputs=flags.with_outputs,
            )
            tiers = (
                marks(study, sizes, block_bytes, flags.prefill_share)
                if block_bytes is not None
                else ()
            )
            replayed = replay_capacities(
                flags.replays, [flags.blocks or 0, study.knee_blocks], _spread(study, POINTS)
            )
            capacities, table_note = _capacities(flags, study, asked, tiers, replayed, stopped)
        with watch.stage("optimum_s"):
            table = make_table(study, capacities, stopped)
        engine: tuple[EnginePoint, ...] = ()
        if flags.replays and not stopped:
            with watch.stage("engine_s"):
                engine = replay_engine(workload, replayed, config, drive, stopped)
        with watch.stage("advice_s"):
            ceiling = study.ceiling()
            if targets is None and ceiling.hit_tokens:
                best = ceiling.hit_tokens / ceiling.queried_tokens
                targets = [share * best for share in SHARES_OF_CEILING]
            advice = advise(study, targets or [], block_bytes) if ceiling.hit_tokens else ()
            rates = {
                point.capacity_blocks: point.token_hit_rate
                for point in engine
                if point.queried_tokens  # else nobody was admitted
            }
            knee = bounds_at(study, study.knee_blocks, rates.get(study.knee_blocks))
            focus = None
            if flags.blocks is not None:
                focus = bounds_at(study, flags.blocks, rates.get(flags.blocks))
            warm = study.ceiling(flags.warm_up)
        timing = {**watch.stages, "compile_s": watch.compile_s, "total_s": watch.total_s}
    return CurveDocument(
        title=workload.name,
        version=version(),
        config=said_flags(
            flags,
            bytes_per_block=block_bytes,
            targets=targets or [],
            **{f"{tier.lower()}_bytes": size for tier, size in sizes.items()},
        ),
        workload=said_workload(workload),
        table=table,
        table_note=table_note,
        ceiling=ceiling,
        warm_ceiling=warm,
        distinct_blocks=study.distinct_blocks,
        knee=knee,
        focus=focus,
        marks=tiers,
        engine=engine,
        advice=advice,
        headline=headline(table, knee, focus, block_bytes),
        notes=(*(() if engine else (_ALONE,)), *notes, *workload.notes),
        timing=timing,
        partial=stopped.why,
    )


def _capacities(
    flags: CurveFlags,
    study: CapacityStudy,
    asked: list[int] | None,
    tiers: tuple[Mark, ...],
    replayed: list[int],
    stopped: Stopped,
) -> tuple[list[int], str]:
    """Return which capacities the table has, and how they were chosen."""
    from kvatlas.plan.capacity import POINTS

    if asked is not None:
        return asked, "The capacities that were asked for."
    named = {study.knee_blocks, flags.blocks or 0, *replayed}
    named |= {mark.capacity_blocks for mark in tiers}
    if flags.all_points and not stopped:
        chosen, note = study.lru.blocks.at.tolist(), "Every breakpoint of the curve"
    else:
        wanted = POINTS if stopped else flags.points or POINTS
        chosen = _spread(study, wanted)
        note = f"{wanted} capacities, each as many times the one before, moved to breakpoints"
    capacities = sorted(blocks for blocks in named | set(chosen) if blocks > 0)
    return capacities or [1], f"{note}, and those that have a name."


def _spread(study: CapacityStudy, count: int) -> list[int]:
    from kvatlas.measure.curves import spread

    capacities: list[int] = spread(study.lru.blocks, count).tolist()
    return capacities
