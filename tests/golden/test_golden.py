"""Recorded decisions of the real vLLM, replayed on the twin without vLLM.

The fixtures' workloads are generated and small; `record.py` says how they were made. A failure
shows the first differing step side by side, as long as it is among the steps recorded in clear.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fixture
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm"))

from cases import Case
from diff import explain, words_sha256
from twin import TwinRun, run_gliding, run_twin


def test_fixtures_cover_the_settings() -> None:
    all_golden = [fixture.read(path) for path in fixture.paths()]
    configs = [golden.config for golden in all_golden]
    assert len(all_golden) >= 40
    assert len({type(spec) for config in configs for spec in config.groups}) == 4
    assert {config.policy for config in configs} == {"fcfs", "priority"}
    assert {config.async_scheduling for config in configs} == {False, True}
    assert {config.enable_prefix_caching for config in configs} == {False, True}
    assert {config.scheduler_reserve_full_isl for config in configs} == {False, True}
    assert {golden.drive.arrivals for golden in all_golden} == {"backlog", "timed"}
    assert any(config.watermark for config in configs)
    assert any(config.long_prefill_token_threshold for config in configs)
    assert any(config.prefix_cache_retention_interval for config in configs)
    assert any(config.prefix_cache_retention_interval is None for config in configs)
    assert sum(path.stat().st_size for path in fixture.paths()) < 1_500_000


@pytest.mark.parametrize("path", fixture.paths(), ids=lambda path: path.name.split(".")[0])
def test_twin_decides_as_recorded(path: Path) -> None:
    # GIVEN what vLLM decided WHEN the twin serves the same requests THEN every word is the same
    golden = fixture.read(path)
    case = golden_case(golden)
    twin = run_twin(case, check=True)
    for at, words in enumerate(golden.first_steps):
        if at >= len(twin.steps) or words != twin.steps[at]:
            pytest.fail(explain(golden, golden.first_steps, twin.steps, at), pytrace=False)
    stream = (word for step in twin.steps for word in step)
    assert words_sha256(stream) == golden.stream_sha256
    assert len(twin.steps) == golden.num_steps
    compare_end(golden, twin)


@pytest.mark.parametrize("path", fixture.paths(), ids=lambda path: path.name.split(".")[0])
def test_gliding_twin_decides_as_recorded(path: Path) -> None:
    # GIVEN nobody who listens WHEN the twin passes over quiet decoding THEN nothing else changes
    golden = fixture.read(path)
    twin = run_gliding(golden_case(golden), checksum=True, check=True)
    assert twin.result.decisions["alloc_sha256"] == golden.alloc_sha256
    compare_end(golden, twin)


def golden_case(golden: fixture.Golden) -> Case:
    """Return the fixture as a case; raw identities are only for the real vLLM."""
    raw_ids = golden.workload.ids.astype(np.int64)
    return Case("", 0, golden.workload, raw_ids, golden.config, golden.drive, "sha256")


def compare_end(golden: fixture.Golden, twin: TwinRun) -> None:
    """Compare totals, the rejected requests, the free queue and the number of cached blocks."""
    assert {name: twin.result.decisions[name] for name in golden.totals} == golden.totals
    assert twin.result.rejected == golden.rejected
    assert words_sha256(twin.free_queue)[:16] == golden.freelist_sha256
    assert twin.num_cached_blocks == golden.num_cached_blocks
