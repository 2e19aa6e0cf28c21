"""What blocks the twin blocks the real vLLM for ever, and nothing else does.

Owns: the two ways in which the twin gives a request up: before it starts (`never_fits`) and when it
turns out to block an empty pool. Leaves to others: what happens around it (`test_scheduler_twin`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import TIGHT, Case, make_case
from diff import explain
from groups import FAMILIES
from steps import RealRun
from twin import run_twin

from kvatlas.engine.replay import never_fits

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SEEDS, PATIENCE_STEPS = 8, 200


def steps_left(steps: Iterator[list[int]]) -> int:
    """Go on for up to `PATIENCE_STEPS` steps; return how many there were."""
    return sum(1 for _, _ in zip(range(PATIENCE_STEPS), steps, strict=False))


def room_for_all_prompts(case: Case, spare: int) -> Case:
    """Raise max_model_len above the longest prompt: vLLM's front door refuses longer ones."""
    longest = int(case.workload.prompt_tokens.max())
    if case.config.max_model_len > longest:
        return case
    return replace(case, config=case.config.with_(max_model_len=longest + 1 + spare))


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_never_serves_what_never_fits(family: str) -> None:
    # GIVEN a request that the twin refuses at once WHEN it is alone in vLLM THEN it never finishes
    for seed in range(SEEDS):
        case = room_for_all_prompts(make_case(TIGHT + family, seed), seed)
        rows = np.flatnonzero(never_fits(case.workload, case.config)).tolist()
        for row in rows[:2]:
            others = set(range(case.workload.num_requests)) - {row}
            real = RealRun(case, others)
            steps_left(real.steps())
            assert real.totals["finished"] == 0, f"row {row} of {case}"


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_hangs_where_the_twin_says_blocked(family: str) -> None:
    # GIVEN no request set aside WHEN the twin stops as blocked THEN vLLM serves nobody any more
    for seed in range(SEEDS):
        case = room_for_all_prompts(make_case(TIGHT + family, seed), seed)
        case = replace(case, drive=replace(case.drive, block_like_vllm=True))
        twin = run_twin(case)
        real = RealRun(case)
        steps, expected = real.steps(), list[list[int]]()
        for at, ours in enumerate(twin.steps):
            expected.append(next(steps, []))
            if expected[at] != ours:
                pytest.fail(explain(case, expected, twin.steps, at), pytrace=False)
        finished = real.totals["finished"]
        further = steps_left(steps)
        if twin.result.blocked_row is None:
            assert further == 0, case
            assert real.totals["finished"] == case.workload.num_requests, case
        else:
            assert further == PATIENCE_STEPS, case
            assert real.totals["finished"] == finished, case
