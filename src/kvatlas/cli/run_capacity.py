"""The capacity part of a run's report: the same trace at other pool sizes, without replays.

Owns: whether it can be had, and from what it is made. Leaves to others: figures
(`kvatlas.measure.curves`), sentences (`kvatlas.plan.capacity`), the look (`curve_html`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.measure import Figures
    from kvatlas.report.curve_document import CurveDocument
    from kvatlas.workload import Workload

__all__ = ["run_capacity"]

_ALONE = (
    "The curve is of a prefix cache alone, requests one after another, answers cached too; what "
    "running requests pin is only in the engine's point."
)


def run_capacity(
    workload: Workload,
    config: Mapping[str, Any],
    said_workload: Mapping[str, Any],
    figures: Figures,
) -> CurveDocument | None:
    """Return what other pool sizes would hit; None where the requests or layers do not say.

    O((N + S) log N) for S pieces of reuse, and 65 times as much for the optimum.
    """
    from kvatlas.cli.version import version
    from kvatlas.measure.curves import CapacityStudy, spread
    from kvatlas.plan import Setup
    from kvatlas.plan.capacity import POINTS, SHARES_OF_CEILING, advise, bounds_at, headline
    from kvatlas.report.curve_document import CurveDocument

    # It says nothing where a replay's own bounds cannot be said.
    if figures.values.get("prefix.optimum_token_hit_rate") is None:
        return None
    conditions = Setup(config).conditions()
    study = CapacityStudy(workload, conditions.block_size or 1, with_outputs=True)
    capacity = conditions.usable_blocks
    wanted = {*spread(study.lru.blocks, POINTS).tolist(), study.knee_blocks, capacity}
    table = study.table(sorted(blocks for blocks in wanted if blocks > 0))
    rate = figures.values.get("prefix.token_hit_rate") if conditions.caching else None
    ceiling, block_bytes = study.ceiling(), config.get("bytes_per_block")
    best = ceiling.token_hit_rate or 0.0
    knee = bounds_at(study, study.knee_blocks)
    focus = bounds_at(study, capacity, None if rate is None else float(rate))
    return CurveDocument(
        title=workload.name,
        version=version(),
        config={**config, "with_outputs": True, "count_partial": False},
        workload=said_workload,
        table=table,
        table_note=f"{POINTS} capacities, the knee, and this pool",
        ceiling=ceiling,
        warm_ceiling=study.ceiling(0.1),
        distinct_blocks=study.distinct_blocks,
        knee=knee,
        focus=focus,
        marks=(),
        engine=(),
        advice=advise(study, [share * best for share in SHARES_OF_CEILING], block_bytes)
        if best
        else (),
        headline=headline(table, knee, focus, block_bytes),
        notes=(_ALONE,),
        timing={},
    )
