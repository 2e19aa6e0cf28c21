"""The engine's own curve: with running requests that pin blocks, and outputs; by replays.

Owns: replaying one configuration at several pool sizes. No law gives these points in one pass:
what runs at once, and so what is pinned, depends on the pool's size itself. (For one request at a
time the one pass with outputs is the engine's own curve, see docs/guide/curve.md.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.jit import COMPILED
from kvatlas.report.curve_document import EnginePoint
from kvatlas.workload import Workload

__all__ = ["engine_points"]

_SLICE_STEPS = 1 << 14 if COMPILED else 64
_NULL_BLOCKS = 1  # vLLM keeps block 0 to itself


def engine_points(
    workload: Workload,
    capacities: Sequence[int],
    config: EngineConfig,
    drive: DriveConfig | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[EnginePoint, ...]:
    """Replay `workload` once per capacity (blocks that hold content) and return what was hit.

    Args:
        workload: the requests.
        capacities: blocks beside vLLM's null block.
        config: every other setting of the engine; drive: how requests come.
        on_progress: called between slices with replays done and requests of this one finished.
        should_stop: asked as often; True ends it with the points that are whole.

    Raises: InputError when no engine can be made of the settings.
    """
    points: list[EnginePoint] = []
    for capacity in capacities:
        blocks = max(2, int(capacity) + _NULL_BLOCKS)
        places = max(1, min(config.max_num_seqs, workload.num_requests))
        replay = Replay(workload, config.with_(num_blocks=blocks, max_num_seqs=places), drive)
        for _ in chain((None,), replay.slices(max_steps=_SLICE_STEPS)):
            if on_progress is not None:
                on_progress(len(points), replay.requests_finished)
            if should_stop is not None and should_stop():
                return tuple(points)
        result = replay.result()
        hits, queries = (int(result.decisions[f"prefix_{name}"]) for name in ("hits", "queries"))
        points.append(
            EnginePoint(
                num_blocks=blocks,
                capacity_blocks=blocks - _NULL_BLOCKS,
                hit_tokens=hits,
                queried_tokens=queries,
                token_hit_rate=hits / max(1, queries),
                preemptions=int(result.decisions["preemptions"]),
                never_served=len(result.rejected),
            )
        )
    return tuple(points)
