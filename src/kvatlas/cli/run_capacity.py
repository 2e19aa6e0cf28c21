"""The capacity part of a run's report: the same trace at other pool sizes, without replays.

Owns: whether it can be had, and from what it is made. Leaves to others: figures
(`kvatlas.measure.curves`), sentences (`kvatlas.plan.capacity`), the look (`curve_html`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.measure import Figures
    from kvatlas.report.curve_document import CurveDocument, EnginePoint
    from kvatlas.workload import Workload

__all__ = ["run_capacity"]

_POINTS = 65
_OF_CEILING = (0.5, 0.8, 0.9, 0.95)
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
    from kvatlas.plan.capacity import advise, bounds_at, headline
    from kvatlas.report.curve_document import CurveDocument, EnginePoint

    # It says nothing where a replay's own bounds cannot be said.
    if figures.values.get("prefix.optimum_token_hit_rate") is None:
        return None
    try:
        conditions = Setup(config).conditions()
        study = CapacityStudy(workload, conditions.block_size or 0, with_outputs=True)
    except InputError:
        return None
    capacity = conditions.usable_blocks
    wanted = {*spread(study.lru.blocks, _POINTS).tolist(), study.knee_blocks, capacity}
    table = study.table(sorted(blocks for blocks in wanted if blocks > 0))
    rate = figures.values.get("prefix.token_hit_rate")
    point: tuple[EnginePoint, ...] = ()
    if rate is not None and conditions.caching:
        queried = workload.total_prompt_tokens
        point = (
            EnginePoint(
                num_blocks=int(config["num_blocks"]),
                capacity_blocks=capacity,
                hit_tokens=round(rate * queried),
                queried_tokens=queried,
                token_hit_rate=float(rate),
                preemptions=int(figures.values.get("preemption.count") or 0),
                never_served=0,
            ),
        )
    ceiling, block_bytes = study.ceiling(), config.get("bytes_per_block")
    best = ceiling.token_hit_rate or 0.0
    knee = bounds_at(study, study.knee_blocks)
    focus = bounds_at(study, capacity, float(rate) if point and rate is not None else None)
    return CurveDocument(
        title=workload.name,
        version=version(),
        config={**config, "with_outputs": True, "count_partial": False},
        workload=said_workload,
        table=table,
        table_note=f"{_POINTS} capacities, the knee, and this pool",
        ceiling=ceiling,
        warm_ceiling=study.ceiling(0.1),
        distinct_blocks=study.distinct_blocks,
        knee=knee,
        focus=focus,
        marks=(),
        engine=point,
        advice=advise(study, [share * best for share in _OF_CEILING], block_bytes) if best else (),
        headline=headline(table, knee, focus, block_bytes),
        notes=(_ALONE,),
        timing={},
    )
