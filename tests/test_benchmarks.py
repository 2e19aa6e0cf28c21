"""The benchmark command runs and its figures are whole; how fast it is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.__main__ import main, parse
from benchmarks.slope import Point, Slope
from benchmarks.vllm_driver import block_hashes

from kvatlas.workload import generate
from kvatlas.workload.export import export

TINY = ["--repeats=1", "--limit=20", "--pools=3000", "--max-requests=1000", "--max-blocks=1000"]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    export(generate("retrieval", seed=0, num_requests=40, document_tokens=600.0), path)
    return path


def test_all_parts_that_need_no_process(trace: Path, tmp_path: Path) -> None:
    # GIVEN a small trace WHEN the engine's parts run THEN the figures are printed and written
    out = tmp_path / "figures.json"
    parts = ["side-by-side", "whole", "slope", "memory", "eyes"]
    page = tmp_path / "figures.md"
    figures = main([*parts, *TINY, f"--trace={trace}", f"--json={out}", f"--markdown={page}"])
    assert json.loads(out.read_text(encoding="utf-8")) == json.loads(json.dumps(figures))
    assert {"schema", "machine", "trace", *parts} == set(figures)
    assert page.read_text(encoding="utf-8").count("**") == 2 * 8
    pair = figures["side-by-side"][0]
    assert pair["requests"] == 20
    assert pair["vllm"] is None
    assert pair["tokens_per_s"] > 0
    assert figures["whole"][0]["scheduled_tokens"] > pair["scheduled_tokens"]
    assert [slope["grows"] for slope in figures["slope"]] == ["requests", "blocks"]
    assert figures["memory"][0]["pool_per_block"] <= 64
    heard = figures["eyes"]["listening"][0]
    assert heard["events"] > 0
    assert heard["tracking_over_recorded"] > 0


@pytest.mark.slow
def test_the_arena_is_measured_beside_others(trace: Path) -> None:
    # GIVEN a short course WHEN the part runs THEN every contender has its time and its need
    figures = main(["arena", *TINY, f"--trace={trace}"])["arena"]
    names = [row["contender"] for row in figures["operations"]]
    assert {"GPUMemoryPool", "IntelligentMemoryPool", "naive best fit"} <= set(names)
    assert any(name.startswith("PyArrow") for name in names)
    assert all(row["single_ns"] > 0 for row in figures["operations"])
    need = {(row["contender"], row["course"]): row["overhead"] for row in figures["needs"]}
    assert {name for name, _ in need} == set(names)
    for course in {course for _, course in need}:
        # The same ranges serve, so the same memory is enough.
        assert need["GPUMemoryPool", course] == need["naive best fit", course] >= 1


def test_the_command_line_of_kvatlas_is_timed(trace: Path) -> None:
    process = main(["end-to-end", "--repeats=1", f"--trace={trace}"])["end-to-end"]
    assert process["process"]["median"] > 0
    assert process["hit_tokens"] > 0
    assert process["expected_hit_tokens"] is None


def test_slope_of_proportional_cost_is_one() -> None:
    points = tuple(Point(size, 1, float(size)) for size in (1_000, 10_000, 100_000))
    assert Slope("blocks", points).exponent == pytest.approx(1.0)


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["nothing"])
    assert "no such part: nothing" in capsys.readouterr().err


def test_driver_names_blocks_as_the_trace_does() -> None:
    # GIVEN two requests that share the first of two ids
    first = {"input_length": 40, "output_length": 9, "hash_ids": [7, 8], "block_size": 32}
    other = {"input_length": 64, "output_length": 1, "hash_ids": [7, 9], "block_size": 32}
    # WHEN the driver cuts them into blocks of 16
    ours, theirs = block_hashes(first, 0, 16), block_hashes(other, 1, 16)
    # THEN the blocks of the shared id are equal and no others
    assert [len(ours), len(theirs)] == [3, 4]
    assert ours[:2] == theirs[:2]
    assert len({*ours, *theirs}) == 5
    assert {len(name) for name in ours} == {32}
