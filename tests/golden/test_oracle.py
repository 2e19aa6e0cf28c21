"""What the real vLLM decided on the public conversation trace, every count and both checksums.

The recordings and the trace are not part of this repository: they are looked up in the folder named
by KVATLAS_SHARED, or in `shared` beside the repository, and skipped where neither exists.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from oracle_manager import drive_manager

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.replay import DriveConfig, Replay
from kvatlas.workload import Workload, load

_GIVEN = os.environ.get("KVATLAS_SHARED")
_SHARED = Path(_GIVEN) if _GIVEN else Path(__file__).resolve().parents[2].parent / "shared"
_GOLDEN = _SHARED / "oracle" / "golden"
_TRACE = _SHARED / "traces" / "mooncake_conversation.jsonl"

pytestmark = pytest.mark.skipif(
    not (_GOLDEN.is_dir() and _TRACE.exists()),
    reason="recordings of the public trace are not here (KVATLAS_SHARED names their folder)",
)

# What a recording's configuration does not say, its name does.
_SETTINGS: dict[str, dict[str, Any]] = {
    "sr_20k_1000": {},
    "sr_20k_1000_async": {"async_scheduling": True},
    "sr_20k_1000_noisl": {"scheduler_reserve_full_isl": False},
    "sr_20k_1000_prio": {"policy": "priority"},
    "sr_20k_1000_wm": {"watermark": 0.05},
    "sr_200k_1000": {},
    "sr_200k_1000_async": {"async_scheduling": True},
    "sr_200k_1000_timed": {},
    "golden_sched_full_20k": {},
    "golden_sched_full_200k": {},
    "golden_sched_full_96001_one_at_a_time": {"max_num_seqs": 1},
}
_MANAGER = ("mgr_20000_limit2000", "mgr_full_20000_precomputed", "mgr_full_200000_precomputed")


@functools.cache
def _trace() -> Workload:
    return load(_TRACE, format="mooncake")


def _recorded(name: str) -> dict[str, Any]:
    path = _GOLDEN / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the recording {name} is not here")
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def test_every_recording_is_compared() -> None:
    names = {path.stem for path in _GOLDEN.glob("*.json")}
    assert names <= {*_SETTINGS, *_MANAGER}


@pytest.mark.parametrize("name", _SETTINGS)
def test_scheduler_decides_as_recorded(name: str) -> None:
    # GIVEN the trace WHEN the twin serves it THEN counts, block ids and the free queue agree
    recorded = _recorded(name)
    config = EngineConfig(num_blocks=recorded["num_blocks"], **_SETTINGS[name])
    for setting in ("max_num_seqs", "policy", "watermark"):
        assert getattr(config, setting) == recorded[setting]
    assert config.scheduler_reserve_full_isl == recorded["reserve_full_isl"]
    assert config.async_scheduling == (recorded["scheduler"] == "AsyncScheduler")
    replay = Replay(
        _trace().head(recorded["requests"]),
        config,
        DriveConfig(arrivals=recorded["arrivals"]),
        checksum=True,
    )
    decisions = replay.run().decisions
    compared = decisions.keys() & recorded.keys()
    assert {"alloc_sha256", "freelist_sha256", "steps", "preemptions", "hit_rate"} <= compared
    assert {key: decisions[key] for key in compared} == {key: recorded[key] for key in compared}
    if replay.config.num_blocks <= 20000:
        replay.check()


@pytest.mark.parametrize("name", _MANAGER)
@pytest.mark.slow
def test_manager_decides_as_recorded(name: str) -> None:
    recorded = _recorded(name)
    rows = recorded["requests"] + recorded["skipped"]
    counts = drive_manager(
        _trace().head(rows),
        num_blocks=recorded["num_blocks"],
        block_size=recorded["block_size"],
        concurrency=recorded["concurrency"],
    )
    compared = counts.keys() & recorded.keys()
    assert {"alloc_sha256", "freelist_sha256", "evictions", "cache_inserts"} <= compared
    assert {key: counts[key] for key in compared} == {key: recorded[key] for key in compared}
