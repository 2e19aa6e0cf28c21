"""The twin against the real vLLM Scheduler: every decision of every step, on random cases.

Run by `make test-vllm` in an environment that holds vllm 0.32.0. A failure prints the case as a line
that makes it again, and the first differing step side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from cases import LARGE, make_case
from diff import explain
from groups import FAMILIES
from steps import RealRun
from twin import run_twin

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CHUNKS, CASES_PER_CHUNK = 4, 15
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
    real = RealRun(case, rejected=twin.result.rejected)
    expected: list[list[int]] = []
    for at, words in enumerate(real.steps()):
        expected.append(words)
        if at >= len(twin.steps) or words != twin.steps[at]:
            pytest.fail(explain(case, expected, twin.steps, at), pytrace=False)
    totals = real.result()
    decided = {name: twin.result.decisions[name] for name in totals}
    free = real.free_queue()
    assert len(twin.steps) == len(expected), case
    assert decided == totals, case
    assert twin.free_queue == free, case
    assert twin.num_cached_blocks == real.num_cached_blocks(), case
    volume["configurations"] += 1
    volume["requests"] += case.workload.num_requests
    volume["rejected requests"] += len(twin.result.rejected)
    volume["steps"] += len(expected)
    volume["preemptions"] += real.totals["preemptions"]
    volume["hit tokens"] += real.totals["prefix_hits"] + real.totals["preempted_hits"]
    volume["pool operations"] += sum(real.pool_operations.values())


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_decision_of_every_step(family: str, chunk: int, volume: Counter[str]) -> None:
    # GIVEN random settings and requests WHEN both engines serve them THEN they never differ
    for seed in range(chunk * CASES_PER_CHUNK, (chunk + 1) * CASES_PER_CHUNK):
        compare(family, seed, volume, check=seed % 5 == 0)


@pytest.mark.parametrize("family", LARGE_FAMILIES)
def test_pools_of_thousands_of_blocks(family: str, volume: Counter[str]) -> None:
    # GIVEN a prefix index laid out in pages WHEN both engines serve THEN they never differ
    for seed in range(LARGE_CASES):
        compare(LARGE + family, seed, volume, check=seed == 0)


def test_enough_was_compared(volume: Counter[str]) -> None:
    wanted = len(FAMILIES) * CHUNKS * CASES_PER_CHUNK + len(LARGE_FAMILIES) * LARGE_CASES
    if volume["configurations"] < wanted:
        pytest.skip("only some of the cases ran")
    assert volume["pool operations"] > 1_000_000
    assert volume["requests"] > 10_000
    assert volume["preemptions"] > 1_000
