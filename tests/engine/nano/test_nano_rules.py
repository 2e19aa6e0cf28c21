"""Single rules of the nano-vLLM profile, each on the smallest workload that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_cases import by_hand
from nano_plain import ADMIT, GROW, PREEMPT, SCHEDULED, STEP

from kvatlas.engine.nano import NANO_VERSIONS, NanoConfig, NanoReplay
from kvatlas.engine.replay import DriveConfig, ReplayResult
from kvatlas.errors import InputError
from kvatlas.workload import Workload

Row = tuple[list[int], int, int, float]


def requests(*rows: tuple[int, int, int]) -> Workload:
    """Build requests of (raw id, prompt tokens, output tokens) in blocks of 4."""
    return by_hand([([raw], prompt, output, 0.0) for raw, prompt, output in rows], 4)


def play(
    workload: Workload, drive: DriveConfig | None = None, **settings: Any
) -> tuple[ReplayResult, list[list[int]]]:
    """Replay and return the result and each step's words, less STEP and its number."""
    seen: list[np.ndarray[Any, Any]] = []
    replay = NanoReplay(workload, NanoConfig(block_size=4, **settings), drive, on_words=seen.append)
    result = replay.run()
    replay.check()
    words = np.concatenate(seen) if seen else np.zeros(0, np.uint32)
    steps = np.split(words, np.flatnonzero(words == STEP))[1:]
    return result, [step.tolist()[2:] for step in steps]


def test_prefill_goes_before_decode() -> None:
    # GIVEN two requests of which one step admits one
    result, steps = play(requests((1, 4, 2), (2, 4, 2)), num_blocks=9, max_num_seqs=1)
    # THEN the second is admitted before the first decodes, though only one runs per step
    assert steps[0] == [ADMIT, 0, 0, 0, SCHEDULED, 8, 0, 4]
    assert steps[1] == [ADMIT, 1, 0, 1, SCHEDULED, 7, 1, 4]
    assert steps[2] == [GROW, 0, 2, SCHEDULED, 6, 0, 1]
    assert result.decisions["steps"] == 4
    assert result.decisions["mean_running"] == 1.5


def test_only_the_first_prompt_of_a_step_is_cut() -> None:
    _, steps = play(requests((1, 10, 1), (2, 5, 1)), num_blocks=9, max_num_batched_tokens=6)
    scheduled = [step[step.index(SCHEDULED) + 2 :] for step in steps]
    # The second prompt needs 5 tokens; 2 are left beside the first one's rest.
    assert scheduled == [[0, 6], [0, 4], [1, 5]]
    assert steps[1][0] == SCHEDULED  # the rest of a prompt takes no more blocks


def test_before_chunked_prefill_a_prompt_is_admitted_whole_or_never() -> None:
    result, steps = play(
        requests((1, 7, 1), (2, 5, 1), (3, 6, 1)),
        num_blocks=9,
        max_num_batched_tokens=6,
        version="9e8507e",
    )
    assert result.rejected == (0,)
    assert result.decisions["empty_steps"] == 1
    assert steps[0] == [SCHEDULED, 9]
    assert [step[step.index(SCHEDULED) + 2 :] for step in steps[1:]] == [[1, 5], [2, 6]]


def test_the_last_sequence_is_preempted_and_waits_first() -> None:
    # GIVEN two running sequences, a full pool, and a third that waits
    result, steps = play(requests((1, 8, 4), (2, 8, 3), (3, 8, 3)), num_blocks=4, max_num_seqs=2)
    # WHEN the first needs a block THEN the second loses all of its own, which are reused tail first
    assert steps[1][:3] == [GROW, 0, 3]
    assert steps[1][3:5] == [PREEMPT, 1]
    assert result.decisions["preemptions"] == 1
    # AND it is admitted again, before the third, with the block of its own that is left
    resumed = next(step for step in steps[2:] if ADMIT in step)
    assert resumed[:3] == [ADMIT, 1, 4]
    assert result.decisions["admissions_resumed"] == 1
    assert result.decisions["preempted_queries"] == 9
    assert result.decisions["preempted_hits"] == 4
    assert result.sums["recomputed_tokens"] == 4


@pytest.mark.parametrize(("version", "hit"), [("bb823b3", 4), ("9e8507e", 8)])
def test_a_full_last_block_hits_only_before_chunked_prefill(version: str, hit: int) -> None:
    result, _ = play(requests((1, 8, 1), (1, 8, 1)), num_blocks=9, max_num_seqs=1, version=version)
    assert result.decisions["prefix_queries"] == 16
    assert result.decisions["prefix_hits"] == hit
    assert result.decisions["scheduled_tokens"] == 16 - hit


@pytest.mark.parametrize(("version", "hit"), [("bb823b3", 0), ("9e8507e", 8)])
def test_a_prompt_hits_its_twin_of_the_same_step_only_before_chunked_prefill(
    version: str, hit: int
) -> None:
    result, _ = play(requests((1, 8, 1), (1, 8, 1)), num_blocks=9, version=version)
    assert result.decisions["prefix_hits"] == hit


def test_blocks_that_somebody_holds_need_no_free_ones() -> None:
    # GIVEN a request whose 3 blocks fill all of the pool but one block
    workload = requests((1, 12, 9), (1, 13, 1))
    # WHEN its twin needs 4 blocks, of which 3 are held
    result, steps = play(workload, num_blocks=7, max_num_seqs=1)
    # THEN it is admitted while the first runs
    assert steps[1][:8] == [ADMIT, 1, 12, 0, 1, 2, 3, SCHEDULED]
    old, steps = play(workload, num_blocks=5, max_num_seqs=1, version="9e8507e")
    assert ADMIT not in steps[1]
    assert result.decisions["finished"] == old.decisions["finished"] == 2


def test_generated_tokens_hit_later_requests_only_when_identified() -> None:
    # GIVEN a second request whose prompt is the first one's prompt and output, and comes later
    rows: list[Row] = [([1], 4, 9, 0.0), ([1], 13, 1, 60.0)]
    drive = DriveConfig(arrivals="timed")
    for identified, hit in ((False, 4), (True, 12)):
        workload = by_hand(rows, 4, outputs_identified=identified)
        result, _ = play(workload, drive, num_blocks=9)
        assert result.decisions["prefix_hits"] == hit
        assert result.first_scheduled_ms.tolist() == [0.0, 60_000.0]


def test_what_never_fits_is_set_aside_and_the_rest_goes_on() -> None:
    # GIVEN a pool of 3 blocks: 12 tokens, the last token of a sequence excepted
    workload = requests((1, 4, 9), (2, 4, 10), (3, 13, 1), (4, 12, 1))
    result, _ = play(workload, num_blocks=3)
    assert result.rejected == (1, 2)
    assert result.decisions["finished"] == 2
    assert not result.partial


def test_like_nano_vllm_it_can_also_stop_there() -> None:
    # GIVEN the drive that keeps what never fits at the head of the queue
    drive = DriveConfig(block_like_vllm=True)
    result, _ = play(requests((1, 4, 1), (2, 4, 10), (3, 4, 1)), drive, num_blocks=3)
    # THEN the replay ends where nano-vLLM's assertion fails
    assert result.blocked_row == 1
    assert result.partial
    assert result.decisions["finished"] == 2


def test_more_sequences_may_hold_blocks_than_a_step_serves() -> None:
    # GIVEN 700 short requests and 4 sequences per step
    workload = by_hand([([i], 3, 2, 0.0) for i in range(700)], 4)
    replay = NanoReplay(
        workload, NanoConfig(num_blocks=1500, block_size=4, max_num_seqs=4), DriveConfig()
    )
    most = 0
    for _ in replay.slices(max_steps=7):
        replay.check()
        most = max(most, int(replay.engine.queue.num_running))
    # THEN all of them come to hold blocks at once
    assert most > 600
    assert replay.result().decisions["finished"] == 700


def test_length_only_workloads_never_hit() -> None:
    empty = np.zeros(0, np.int64)
    workload = requests((1, 12, 3), (1, 12, 3)).with_(
        prefix_known=False, ids=empty, id_offsets=np.zeros(3, np.int64), num_ids=0
    )
    result, _ = play(workload, num_blocks=12, max_num_seqs=1)
    assert result.decisions["prefix_hits"] == 0
    assert result.decisions["finished"] == 2


def test_no_requests() -> None:
    result = NanoReplay(requests((1, 1, 1)).head(0), NanoConfig(num_blocks=2)).run()
    assert result.decisions["steps"] == 0
    assert not result.partial


def test_progress_and_slices() -> None:
    seen: list[int] = []
    workload = by_hand([([i], 9, 30, 0.0) for i in range(12)], 4)
    replay = NanoReplay(workload, NanoConfig(num_blocks=40, block_size=4))
    replay.run(lambda running: seen.append(running.steps))
    whole = replay.result()
    sliced = NanoReplay(workload, NanoConfig(num_blocks=40, block_size=4))
    for _ in sliced.slices(max_steps=3):
        assert sliced.requests_finished <= 12
    assert sliced.result().decisions == whole.decisions
    assert sliced.steps == whole.decisions["steps"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_blocks": 0}, "num_blocks: must be at least 1"),
        ({"num_blocks": 4, "block_size": 1}, "block_size: must be at least 2"),
        ({"num_blocks": 4, "max_num_seqs": 0}, "max_num_seqs"),
        ({"num_blocks": 4, "max_num_batched_tokens": -1}, "max_num_batched_tokens"),
        ({"num_blocks": 4, "version": "0.32"}, "use one of bb823b3, 9e8507e"),
    ],
)
def test_wrong_settings_say_so(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        NanoConfig(**settings)


def test_versions_by_longer_commits() -> None:
    assert NANO_VERSIONS == ("bb823b3", "9e8507e")
    config = NanoConfig(num_blocks=4, version="9e8507ef412efe9d921ecc70d65bcc2fc3dd18eb")
    assert not config.rules.chunked_prefill
    assert config.with_(version="bb823b3").rules.chunked_prefill


def test_a_block_size_that_does_not_fit_the_trace() -> None:
    workload = by_hand([([1], 9, 1, 0.0)], 4)
    with pytest.raises(InputError, match="block_size"):
        NanoReplay(workload, NanoConfig(num_blocks=4, block_size=6))


@pytest.mark.slow
def test_uncompiled_it_decides_the_same() -> None:
    # GIVEN the kernels as plain Python, in a fresh interpreter
    here = Path(__file__).parent
    script = (
        "import json\nfrom nano_cases import Case\nfrom kvatlas.engine.nano import *\n"
        "case = Case('', num_blocks=20, block_size=4, tokens_per_id=8, longest_prompt=40,"
        " longest_output=20, max_num_batched_tokens=48, requests=25, seed=9)\n"
        "for version in NANO_VERSIONS:\n"
        "    replay = NanoReplay(case.workload(), case.config(version), checksum=True)\n"
        "    print(json.dumps(replay.run().decisions)); replay.check()\n"
        "manager, seq = BlockManager(4, 4), Sequence(range(9), block_size=4)\n"
        "manager.allocate(seq, manager.can_allocate(seq)); manager.check()\n"
        "print(seq.block_table)"
    )
    told = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NUMBA_DISABLE_JIT": off, "PYTHONPATH": str(here)},
        ).stdout
        for off in ("1", "0")
    ]
    # THEN both say the same
    assert told[0] == told[1]
    assert told[0].count("preemptions") == 2
