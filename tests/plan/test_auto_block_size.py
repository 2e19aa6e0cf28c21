"""The block size for a trace, chosen before the replay: exact beside it, only sizes that can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.specs import FullAttentionSpec, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.plan import AdaptiveBlockSizer, choose_block_size
from kvatlas.plan.auto_block_size import fitting_block_sizes
from kvatlas.workload import Workload, generate

COUNT = 150 if COMPILED else 30
ROOM = EngineConfig(num_blocks=400_000)
TENTH_OF_A_POINT = 0.001


def conversation(**changes: Any) -> Workload:
    return generate("conversation", seed=3, num_requests=COUNT).with_(**changes)


@pytest.mark.parametrize("arrivals", ["timed", "backlog"])
def test_what_is_expected_is_what_a_replay_measures(arrivals: Any) -> None:
    """GIVEN memory in plenty, nothing shared WHEN chosen THEN within a tenth of a point."""
    workload, drive = conversation(), DriveConfig(arrivals=arrivals)
    config = ROOM.with_(enable_prefix_caching=False)
    chosen = choose_block_size(workload, config, drive)
    assert chosen.lengths_alone is None
    assert chosen.num_blocks * chosen.block_size == 400_000 * 16
    run = Replay(
        workload,
        config.with_(block_size=chosen.block_size, num_blocks=chosen.num_blocks),
        drive,
    ).run()
    measured = run.sums["wasted_slot_ms"] / run.sums["used_block_ms"] / chosen.block_size
    assert abs(measured - chosen.advice.estimate.expected_waste) < TENTH_OF_A_POINT
    said = chosen.said(measured)
    assert said["measured_efficiency"] == pytest.approx(said["efficiency"], abs=TENTH_OF_A_POINT)
    assert said["basis"] == "schedule"
    assert [row["block_size"] for row in said["estimates"]] == [16, 32, 64, 128, 256]
    assert chosen.notes() == ()


def test_the_choice_is_the_sizers() -> None:
    workload = conversation()
    drive = DriveConfig(arrivals="timed")
    advice = AdaptiveBlockSizer.of(workload, config=ROOM, drive=drive).recommend()
    assert choose_block_size(workload, ROOM, drive).advice == advice


def in_pieces_of(tokens: int) -> Workload:
    """Return requests whose identities cover so many tokens each."""
    prompts = np.array([960, 1_920, 480], np.int32)
    counts = -(-prompts // tokens)
    nothing = np.zeros(3, np.int32)
    workload = Workload(
        name="pieces",
        source="pieces",
        arrival_s=np.zeros(3),
        prompt_tokens=prompts,
        output_tokens=np.full(3, 5, np.int32),
        tokens_per_id=tokens,
        ids=np.arange(counts.sum(), dtype=np.int32),
        id_offsets=np.concatenate(([0], np.cumsum(counts))),
        num_ids=int(counts.sum()),
        prefix_known=True,
        outputs_identified=False,
        session=nothing - 1,
        parent=nothing - 1,
        priority=nothing,
        salt=nothing,
    )
    workload.check()
    return workload


@pytest.mark.parametrize(
    ("tokens", "fitting"),
    [(16, (16, 32, 64, 128, 256)), (512, (16, 32, 64, 128, 256)), (96, (16, 32)), (48, (16,))],
)
def test_only_sizes_that_a_trace_can_be_replayed_at(tokens: int, fitting: tuple[int, ...]) -> None:
    """GIVEN a trace's identities THEN a size is a candidate if and only if a replay takes it."""
    workload = in_pieces_of(tokens)
    assert fitting_block_sizes(workload, ROOM) == fitting
    for size in (16, 32, 64, 128, 256):
        try:
            Replay(workload, ROOM.with_(block_size=size))
        except InputError:
            assert size not in fitting
        else:
            assert size in fitting
    assert fitting_block_sizes(workload, ROOM.with_(enable_prefix_caching=False))[-1] == 256


def test_sizes_left_out_are_said_in_a_line() -> None:
    (only,) = choose_block_size(in_pieces_of(48), ROOM, DriveConfig()).notes()
    assert "can be replayed at 16 tokens only of 16, 32, 64, 128 and 256" in only
    (some,) = choose_block_size(in_pieces_of(96), ROOM, DriveConfig()).notes()
    assert "cannot be replayed at 64, 128 and 256" in some


def test_what_the_estimate_rests_on_is_said() -> None:
    """GIVEN settings whose schedule is not foreseen THEN lengths alone are used, and it says so."""
    workload = conversation()
    chosen = choose_block_size(workload, ROOM.with_(policy="priority"), DriveConfig())
    assert chosen.said(None)["basis"] == "lengths"
    assert "priority" in chosen.notes()[0]
    alone = AdaptiveBlockSizer.of(workload)
    assert chosen.advice.estimates == alone.recommend().estimates
    few = ROOM.with_(max_num_batched_tokens=64, max_num_seqs=128)
    assert "fewer tokens" in choose_block_size(workload, few, DriveConfig()).notes()[0]


@pytest.mark.parametrize(
    ("workload", "config", "line"),
    [
        (in_pieces_of(100), ROOM, "give a divisor or a multiple of 100"),
        (in_pieces_of(16).head(0), ROOM, "no requests"),
        (
            in_pieces_of(16),
            ROOM.with_(
                kv_cache_groups=(FullAttentionSpec(block_size=16), FullAttentionSpec(block_size=16))
            ),
            "one group of full attention",
        ),
        (
            in_pieces_of(16),
            ROOM.with_(kv_cache_groups=(SlidingWindowSpec(block_size=16, sliding_window=64),)),
            "one group of full attention",
        ),
    ],
)
def test_what_has_no_choice_is_one_line(
    workload: Workload, config: EngineConfig, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        choose_block_size(workload, config, DriveConfig())
