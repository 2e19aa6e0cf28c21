"""The twin against the real vLLM Scheduler: every decision of every step, on random cases.

Run by `make test-vllm` in an environment that holds vllm 0.32.0. A failure prints the case as a
line that makes it again, and the first differing step side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import LARGE, TIGHT, Case, make_case
from diff import explain, without_schedule, words_sha256
from groups import FAMILIES
from steps import RealRun
from twin import TwinRun, run_gliding, run_twin

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CHUNKS, CASES_PER_CHUNK, TIGHT_CASES = 4, 15, 10
LARGE_FAMILIES, LARGE_CASES = ("full", "full+window", "full+mamba", "tags", "sizes"), 4


@pytest.fixture(scope="module")
def volume(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Count what has been compared, and say so at the end."""
    counts: Counter[str] = Counter()
    yield counts
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        listed = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\ncompared with the real Scheduler: {listed}")


def compare(family: str, seed: int, volume: Counter[str], *, check: bool) -> None:
    """Run one case on both sides and fail on the first difference."""
    case = make_case(family, seed)
    twin = run_twin(case, check=check)
    real = RealRun(case, twin.result.rejected, twin.set_aside)
    expected: list[list[int]] = []
    for at, words in enumerate(real.steps()):
        expected.append(words)
        if at >= len(twin.steps) or words != twin.steps[at]:
            pytest.fail(explain(case, expected, twin.steps, at), pytrace=False)
    assert len(twin.steps) == len(expected), case
    compare_end(case, real, twin)
    # Without a listener the twin passes over quiet decoding: nothing may come out differently.
    gliding = run_gliding(case, checksum=True, check=check)
    compare_end(case, real, gliding)
    digest = words_sha256(word for words in expected for word in without_schedule(words))
    assert gliding.result.decisions["alloc_sha256"] == digest[:16], case
    compare_end(case, real, run_gliding(case, checksum=False))
    volume["configurations"] += 1
    volume["requests"] += case.workload.num_requests
    volume["requests never added"] += len(twin.result.rejected) - len(twin.set_aside)
    volume["requests set aside on the way"] += len(twin.set_aside)
    volume["steps"] += len(expected)
    volume["preemptions"] += real.totals["preemptions"]
    volume["hit tokens"] += real.totals["prefix_hits"] + real.totals["preempted_hits"]
    volume["pool operations"] += sum(real.pool_operations.values())


def compare_end(case: Case, real: RealRun, twin: TwinRun) -> None:
    """Compare totals, the free queue, the number of cached blocks, and each request's times."""
    totals = real.result()
    assert {name: twin.result.decisions[name] for name in totals} == totals, case
    assert twin.free_queue == real.free_queue(), case
    assert twin.num_cached_blocks == real.num_cached_blocks(), case
    result = twin.result
    times = (result.first_scheduled_ms, result.first_token_ms, result.finished_ms)
    names = ("first scheduled", "first token", "finished")
    for name, ours, theirs in zip(names, times, real.times_ms, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}: {case}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_decision_of_every_step(family: str, chunk: int, volume: Counter[str]) -> None:
    # GIVEN random settings and requests WHEN both engines serve them THEN they never differ
    for seed in range(chunk * CASES_PER_CHUNK, (chunk + 1) * CASES_PER_CHUNK):
        compare(family, seed, volume, check=seed % 5 == 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_pools_that_some_requests_do_not_fit_into(family: str, volume: Counter[str]) -> None:
    # GIVEN requests that turn out to block WHEN both engines drop them then THEN they never differ
    for seed in range(TIGHT_CASES):
        compare(TIGHT + family, seed, volume, check=seed % 5 == 0)


@pytest.mark.parametrize("family", LARGE_FAMILIES)
def test_pools_of_thousands_of_blocks(family: str, volume: Counter[str]) -> None:
    # GIVEN a prefix index laid out in pages WHEN both engines serve THEN they never differ
    for seed in range(LARGE_CASES):
        compare(LARGE + family, seed, volume, check=seed == 0)


def test_enough_was_compared(volume: Counter[str]) -> None:
    wanted = len(FAMILIES) * (CHUNKS * CASES_PER_CHUNK + TIGHT_CASES)
    wanted += len(LARGE_FAMILIES) * LARGE_CASES
    if volume["configurations"] < wanted:
        pytest.skip("only some of the cases ran")
    assert volume["pool operations"] > 1_000_000
    assert volume["requests"] > 10_000
    assert volume["preemptions"] > 1_000
