"""The twin's side of a comparison, through its public `Replay`.

Owns: running a case and keeping its decision stream. Needs no vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import Case
from diff import split_steps

from kvatlas.engine.replay import Replay, ReplayResult, free_queue

Words = np.ndarray[Any, np.dtype[np.uint32]]

_MOST_STEPS = 1 << 16


@dataclass(frozen=True)
class TwinRun:
    """What the twin decided: the words of each step, the result, and the state at the end.

    `set_aside` holds (steps done, row) for every request that turned out to block an empty pool.
    """

    steps: list[list[int]]
    set_aside: list[tuple[int, int]]
    result: ReplayResult
    free_queue: list[int]
    num_cached_blocks: int


def run_twin(case: Case, *, check: bool = False) -> TwinRun:
    """Run `case` on the twin step by step; `check` checks all its invariants at the end."""
    pieces: list[Words] = []
    replay = Replay(case.workload, case.config, case.drive, checksum=True, on_words=pieces.append)
    return _run(replay, case, check, pieces)


def run_gliding(case: Case, *, checksum: bool, check: bool = False) -> TwinRun:
    """Run `case` as users do: without a listener the twin passes over quiet decoding in one go."""
    replay = Replay(case.workload, case.config, case.drive, checksum=checksum)
    return _run(replay, case, check, [])


def _run(replay: Replay, case: Case, check: bool, pieces: list[Words]) -> TwinRun:
    rejected = replay.result().rejected
    set_aside = []
    for _ in replay.slices():
        assert replay.steps < _MOST_STEPS, f"the twin does not come to an end:\n{case}"
        known, rejected = len(rejected), replay.result().rejected
        set_aside += [(replay.steps, row) for row in rejected[known:]]
    if check:
        replay.check()
    return TwinRun(
        steps=split_steps(np.concatenate(pieces)) if pieces else [],
        set_aside=set_aside,
        result=replay.result(),
        free_queue=free_queue(replay.engine).tolist(),
        num_cached_blocks=int(replay.engine.pool.info.cached),
    )
