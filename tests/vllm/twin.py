"""The twin's side of a comparison, through its public `Replay`.

Owns: running a case and keeping its decision stream. Needs no vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cases import Case
from diff import split_steps

from kvatlas.engine.replay import Replay, ReplayResult, free_queue

_MOST_STEPS = 1 << 16


@dataclass(frozen=True)
class TwinRun:
    """What the twin decided: the words of each step, the result, and the state at the end."""

    replay: Replay
    steps: list[list[int]]
    result: ReplayResult
    free_queue: list[int]
    num_cached_blocks: int


def run_twin(case: Case, *, check: bool = False) -> TwinRun:
    """Run `case` on the twin; with `check` all its invariants are checked at the end."""
    pieces: list[np.ndarray[tuple[int], np.dtype[np.uint32]]] = []
    replay = Replay(case.workload, case.config, case.drive, checksum=True, on_words=pieces.append)
    for _ in replay.slices():
        assert replay.steps < _MOST_STEPS, f"the twin does not come to an end:\n{case}"
    if check:
        replay.check()
    words = np.concatenate(pieces) if pieces else np.zeros(0, np.uint32)
    return TwinRun(
        replay=replay,
        steps=split_steps(words),
        result=replay.result(),
        free_queue=free_queue(replay.engine).tolist(),
        num_cached_blocks=int(replay.engine.pool.info.cached),
    )
