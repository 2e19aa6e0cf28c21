"""Replay: slices, requests that never fit, blocked queues, counts that must add up."""

from __future__ import annotations

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.errors import InputError
from kvatlas.workload import generate
from kvatlas.workload.model import Workload


def conversation(count: int = 200) -> Workload:
    return generate("conversation", seed=3, num_requests=count)


@pytest.mark.parametrize("arrivals", ["backlog", "timed"])
@pytest.mark.parametrize("policy", ["fcfs", "priority"])
@pytest.mark.parametrize("ahead", [False, True])
def test_slicing_changes_nothing(arrivals: str, policy: str, ahead: bool) -> None:
    """GIVEN a replay WHEN run in slices of 7 steps THEN decisions and checksums are the same."""
    config = EngineConfig(num_blocks=900, policy=policy, async_scheduling=ahead, max_num_seqs=24)  # type: ignore[arg-type]
    drive = DriveConfig(arrivals=arrivals)  # type: ignore[arg-type]
    whole = Replay(conversation(), config, drive, checksum=True).run()
    sliced = Replay(conversation(), config, drive, checksum=True)
    for _ in sliced.slices(max_steps=7, max_tokens=10**9):
        pass
    sliced.check()
    assert sliced.result().decisions == whole.decisions
    assert sliced.result().sums == whole.sums
    assert whole.decisions["finished"] == 200 - len(whole.rejected)


def test_gliding_equals_stepping() -> None:
    """GIVEN one request at a time WHEN every step is logged THEN nothing differs from gliding.

    The full log switches gliding off, so this compares the two paths.
    """
    config = EngineConfig(num_blocks=3000, max_num_seqs=2)
    glided = Replay(conversation(60), config, checksum=True).run()
    stepped = Replay(conversation(60), config, on_words=lambda words: None).run()
    for name, value in stepped.decisions.items():
        assert glided.decisions[name] == value, name
    assert glided.sums == pytest.approx(stepped.sums)


def test_a_request_that_never_fits_is_set_aside() -> None:
    """GIVEN a request larger than the pool WHEN replayed THEN it is reported, the rest served."""
    workload = conversation(50)
    biggest = int(np.argmax(workload.prompt_tokens))
    blocks = int(workload.prompt_tokens[biggest] // 16)
    replay = Replay(workload, EngineConfig(num_blocks=blocks))
    result = replay.run()
    assert biggest in result.rejected
    assert result.decisions["finished"] == 50 - len(result.rejected)
    assert not result.partial


def test_vllm_blocks_for_ever_when_asked() -> None:
    """GIVEN the same WHEN replayed as vLLM does THEN the queue is blocked by that request."""
    workload = conversation(50)
    biggest = int(np.argmax(workload.prompt_tokens))
    blocks = int(workload.prompt_tokens[biggest] // 16)
    result = Replay(
        workload, EngineConfig(num_blocks=blocks), DriveConfig(block_like_vllm=True)
    ).run()
    assert result.blocked_row is not None
    assert result.partial
    assert int(result.decisions["finished"]) < 50


@pytest.mark.parametrize("reserve", [True, False])
def test_output_that_outgrows_the_pool_is_noticed(reserve: bool) -> None:
    """GIVEN output that outgrows the pool WHEN vLLM would preempt it for ever THEN we say so."""
    workload = conversation(1).with_(
        prompt_tokens=np.array([16], np.int32),
        output_tokens=np.array([400], np.int32),
        ids=np.zeros(0, np.int64),
        id_offsets=np.zeros(2, np.int64),
        num_ids=0,
        prefix_known=False,
        outputs_identified=False,
    )
    config = EngineConfig(num_blocks=10, scheduler_reserve_full_isl=reserve)
    result = Replay(workload, config, DriveConfig(block_like_vllm=True)).run()
    assert result.blocked_row == 0
    assert Replay(workload, config).run().rejected == (0,)


def test_block_size_must_fit_the_identities() -> None:
    """GIVEN 16-token identities WHEN blocks of 24 are asked for THEN one line says what to do."""
    with pytest.raises(InputError, match="block size does not divide"):
        Replay(conversation(5), EngineConfig(num_blocks=100, block_size=24))


@pytest.mark.parametrize(
    "field, value",
    [
        ("num_blocks", 1),
        ("num_blocks", 0),
        ("block_size", 0),
        ("max_num_seqs", 0),
        ("watermark", 1.5),
        ("watermark", float("nan")),
        ("policy", "lifo"),
        ("version", "9.9"),
        ("prefix_cache_retention_interval", 7),
    ],
)
def test_bad_settings_are_one_line(field: str, value: object) -> None:
    """GIVEN a bad setting WHEN a config is made THEN InputError names it."""
    with pytest.raises(InputError) as error:
        EngineConfig(**({"num_blocks": 100} | {field: value}))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_older_rules_differ() -> None:
    """GIVEN the rules before PR #42656 WHEN replayed THEN freed blocks queue up differently."""
    new, old = (
        Replay(conversation(), EngineConfig(num_blocks=900, version=version), checksum=True).run()
        for version in ("0.32", "pre-42656")
    )
    assert new.decisions["freelist_sha256"] != old.decisions["freelist_sha256"]
