"""The benchmark of the curve: what it hands to the peers, and what it says of those missing."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from benchmarks.__main__ import main
from benchmarks.curve_at_scale import main as at_scale
from benchmarks.curves import PEERS, block_ids, whole_curve
from benchmarks.policy_goal import goal
from benchmarks.show_curves import goal_table

from kvatlas.workload import Workload, generate, load
from kvatlas.workload.export import export


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    export(generate("retrieval", seed=0, num_requests=40, document_tokens=600.0), path)
    return path


def flat_lru_hits(workload: Workload, capacity: int) -> int:
    """Count the leading hits of each request in a plain list, deepest block oldest."""
    blocks, offsets = block_ids(workload)
    held: dict[int, None] = {}
    hits = 0
    for low, high in pairwise(offsets.tolist()):
        path = blocks[low:high].tolist()
        missed = next((at for at, block in enumerate(path) if block not in held), len(path))
        hits += missed
        for block in reversed(path):
            held.pop(block, None)
            held[block] = None
        while len(held) > capacity:
            del held[next(iter(held))]
    return hits


@pytest.mark.parametrize("capacity", [1, 50, 200, 10**6])
def test_peers_get_the_blocks_that_the_curve_counts(trace: Path, capacity: int) -> None:
    workload = load(trace)
    curve, _, paths = whole_curve(workload)
    blocks, offsets = block_ids(workload)
    assert blocks.size == offsets[-1] == paths.queried_blocks
    assert (np.diff(offsets) == workload.prompt_tokens // 16).all()
    assert int(curve.blocks(capacity)[0]) == flat_lru_hits(workload, capacity)


def test_missing_peers_are_told_with_the_reason(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN no interpreter, one without peers, and one that does not exist
    tiny = ["curves", "--repeats=1", "--max-requests=1000", f"--trace={trace}"]
    for python, reason in (
        (None, "no --peers-python was given"),
        (sys.executable, "cannot be imported: No module named"),
        (str(tmp_path / "none"), "No such file or directory"),
    ):
        # WHEN the curve is measured THEN it has figures, and every peer has a reason
        figures = main([*tiny, *([f"--peers-python={python}"] if python else [])])["curves"]
        peers = figures["beside"]["peers"]
        assert [peer["name"] for peer in peers] == list(PEERS)
        if python != sys.executable:  # which may hold one of them
            assert all(reason in peer["missing"] for peer in peers)
        assert all((peer["missing"] is None) == (peer["seconds"] is not None) for peer in peers)
        assert figures["beside"]["curve"]["median"] > 0
        assert 0 < figures["beside"]["lru_hit_rate"] <= figures["beside"]["optimum_hit_rate"] < 1
        assert figures["slope"]["points"][0]["size"] == 1000
        assert "missing" in capsys.readouterr().out


def test_a_large_trace_is_as_large_as_asked() -> None:
    told = at_scale(2_000_000)
    assert 1_500_000 < told["blocks"] < 2_500_000
    assert 0 < told["distinct_blocks"] < told["blocks"]
    assert told["peak_mib"] >= told["generated_peak_mib"] > 0


def test_the_goal_of_lru_itself_is_nothing_won_and_nothing_lost() -> None:
    workload = generate("conversation", seed=1, num_requests=200)
    (lru,) = goal("chat", workload, 16, False, ["lru"])
    for half in (lru.whole, lru.held_out):
        assert half.lru == half.policy < half.optimum
        assert (half.gap_closed, half.worst, half.best, half.mean) == (0, 0, 0, 0)
    table = goal_table([lru])
    assert table.row_count == 1
