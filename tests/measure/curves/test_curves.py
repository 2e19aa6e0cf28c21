"""The curve against a cache simulated block by block, the optimum against exhaustion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from curves.models import (
    best_hits,
    lru_hits,
    random_paths,
    random_workload,
    served_tokens,
)

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.errors import InputError, InvariantError
from kvatlas.jit import COMPILED
from kvatlas.measure.curves import (
    CapacityStudy,
    HitCurve,
    Optimum,
    knee,
    lru_curve,
    request_paths,
    reuse_runs,
    spread,
)
from kvatlas.measure.curves.content import seen_prompt_tokens

_TRACES = 500 if COMPILED else 40
_INSTANCES = 5000 if COMPILED else 200


@pytest.mark.parametrize("part", range(10))
def test_curve_equals_simulation_on_random_traces(part: int) -> None:
    for seed in range(part, _TRACES, 10):
        paths = random_paths(seed)
        runs = reuse_runs(paths)
        runs.check()
        curve = lru_curve(runs)
        for capacity in (*range(8), 13, 21, 50, 10**9):
            blocks, tokens = lru_hits(paths, capacity)
            assert curve.blocks(capacity)[0] == sum(blocks), (seed, capacity)
            assert curve.tokens(capacity)[0] == sum(tokens), (seed, capacity)


def test_curve_of_a_window_is_that_part_of_the_simulation() -> None:
    for seed in range(60):
        paths = random_paths(seed)
        runs = reuse_runs(paths)
        start, stop = paths.num_requests // 3, paths.num_requests - paths.num_requests // 5
        window = lru_curve(runs, start, stop)
        for capacity in (0, 3, 9, 40):
            blocks, tokens = lru_hits(paths, capacity)
            assert window.blocks(capacity)[0] == sum(blocks[start:stop])
            assert window.tokens(capacity)[0] == sum(tokens[start:stop])
        asked = paths.workload.prompt_tokens[start:stop]
        assert window.queried_tokens == int(asked.sum())


@pytest.mark.parametrize(
    "part", [0, 1, *(pytest.param(part, marks=pytest.mark.slow) for part in range(2, 10))]
)
def test_optimum_equals_exhaustion_on_small_instances(part: int) -> None:
    for seed in range(part, _INSTANCES, 10):
        rng = np.random.default_rng(seed)
        workload = random_workload(
            seed, rows=int(rng.integers(2, 7)), span=1, longest=3, branching=2
        )
        paths = request_paths(workload, 1, count_partial=bool(seed % 2))
        capacity = int(rng.integers(0, 5))
        hits = Optimum(reuse_runs(paths)).hits(capacity)
        assert int(hits.sum()) == best_hits(paths, capacity), seed


def test_optimum_never_falls_below_lru_and_reaches_the_ceiling() -> None:
    for seed in range(100):
        paths = random_paths(seed)
        runs = reuse_runs(paths)
        curve, optimum = lru_curve(runs), Optimum(runs)
        for capacity in (0, 2, 5, 11, 10**6):
            best = np.minimum(optimum.hits(capacity), paths.prompt_blocks).sum()
            assert best >= curve.blocks(capacity)[0] or paths.with_outputs
        assert best == curve.blocks.most


def test_smaller_blocks_do_not_make_more_pieces() -> None:
    # GIVEN identities of 8 tokens
    workload = random_workload(7, rows=300, span=8, longest=40, branching=2)
    pieces = [reuse_runs(request_paths(workload, size)).end.size for size in (8, 4, 2, 1)]
    # THEN a piece is a piece however it is cut (a prompt's partial end may add one)
    assert max(pieces) <= pieces[0] + workload.num_requests


def test_a_stopped_pass_covers_the_requests_it_walked() -> None:
    workload = random_workload(3, rows=200, span=1, longest=30, branching=2)
    paths = request_paths(workload, 1)
    whole = reuse_runs(paths)
    assert whole.num_requests == 200
    part = reuse_runs(paths, should_stop=lambda: True)
    part.check()
    done = part.num_requests
    assert 0 < done <= 200
    assert np.array_equal(part.end, whole.end[: whole.offsets[done]])
    assert lru_curve(part).queried_blocks == int(paths.prompt_blocks[:done].sum())


def test_lengths_only_and_unfit_blocks_are_refused_in_one_line() -> None:
    workload = random_workload(1, rows=3, span=4, longest=3, branching=2)
    with pytest.raises(InputError, match="divide 4 tokens"):
        request_paths(workload, 3)
    with pytest.raises(InputError, match="one or the other"):
        request_paths(workload, 4, count_partial=True, with_outputs=True)
    empty = workload.with_(
        ids=workload.ids[:0],
        id_offsets=np.zeros(4, np.int64),
        num_ids=0,
        prefix_known=False,
    )
    with pytest.raises(InputError, match="lengths only"):
        request_paths(empty, 4)


def test_check_notices_a_changed_table() -> None:
    runs = reuse_runs(request_paths(random_workload(5, rows=50, span=1, longest=9, branching=1), 1))
    assert runs.end.size
    for damaged in (
        replace(runs, end=runs.end - 100),
        replace(runs, last_use=runs.last_use + 1000),
        replace(runs, newer=runs.newer - 10**6),
        replace(runs, offsets=runs.offsets[::-1].copy()),
    ):
        with pytest.raises(InvariantError):
            damaged.check()


def test_no_requests_give_an_empty_curve() -> None:
    workload = random_workload(1, rows=3, span=4, longest=3, branching=2).head(0)
    curve = lru_curve(reuse_runs(request_paths(workload, 4)))
    assert curve.blocks.most == 0
    assert curve.tokens(np.array([0, 5])).tolist() == [0, 0]
    assert knee(curve.blocks) == 0


class TestHitCurve:
    def test_a_ramp_by_hand(self) -> None:
        # GIVEN 3 hits from the 3rd block on and 2 from the 5th on
        curve = HitCurve.of_ramps(np.array([2, 4]), np.array([3, 2]))
        assert curve(np.arange(8)).tolist() == [0, 0, 0, 1, 2, 4, 5, 5]
        assert (curve.most, curve.enough) == (5, 6)

    def test_capacity_for_is_the_smallest_that_reaches_it(self) -> None:
        for seed in range(200):
            rng = np.random.default_rng(seed)
            start, length = rng.integers(0, 20, 6), rng.integers(1, 9, 6)
            curve = HitCurve.of_ramps(start.astype(np.int64), length.astype(np.int64))
            values = curve(np.arange(40))
            for wanted in range(curve.most + 1):
                assert curve.capacity_for(wanted) == int(np.argmax(values >= wanted))
            assert curve.capacity_for(curve.most + 1) is None

    def test_knee_is_highest_above_the_chord(self) -> None:
        # GIVEN 10 hits for the first 2 blocks and 2 for the next 8
        curve = HitCurve.of_ramps(np.array([0] * 5 + [2]), np.array([2] * 5 + [8]))
        assert knee(curve) == 2

    def test_spread_reaches_both_ends_and_rises(self) -> None:
        curve = lru_curve(reuse_runs(random_paths(11))).blocks
        for count in (1, 2, 7, 65):
            capacities = spread(curve, count)
            assert (np.diff(capacities) > 0).all()
            assert capacities[-1] == max(1, curve.enough)
            assert capacities.size <= count + 1


def test_tokens_for_a_wanted_rate_are_reached_and_not_before() -> None:
    for seed in range(80):
        curve = lru_curve(reuse_runs(random_paths(seed)))
        for share in (0.1, 0.5, 0.9, 1.0):
            wanted = share * curve.most_tokens
            capacity = curve.capacity_for_tokens(wanted)
            assert capacity is not None
            assert curve.tokens(capacity)[0] >= wanted
            assert capacity == 0 or curve.tokens(capacity - 1)[0] < wanted
        assert curve.capacity_for_tokens(curve.most_tokens + 1) is None


def test_served_tokens_by_hand() -> None:
    # GIVEN a prompt of 8 tokens in blocks of 4: the last block is computed again
    workload = random_workload(1, rows=1, span=4, longest=1, branching=1).with_(
        prompt_tokens=np.array([8], np.int32)
    )
    paths = request_paths(workload, 4)
    assert [served_tokens(paths, 0, hits) for hits in range(3)] == [0, 4, 4]


def test_content_is_what_was_seen_to_the_token() -> None:
    for seed in range(150):
        paths = random_paths(seed)
        workload, seen = paths.workload, set[int]()
        wanted = []
        for row in range(workload.num_requests):
            ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
            prompt, span = int(workload.prompt_tokens[row]), workload.tokens_per_id
            if not paths.with_outputs:
                ids = ids[: -(-prompt // span)]
            found = sum(1 for one in ids if one in seen)
            wanted.append(min(found * span, prompt))
            seen.update(ids)
        assert seen_prompt_tokens(paths).tolist() == wanted


def test_every_token_has_one_fate() -> None:
    for seed in range(60):
        paths = random_paths(seed)
        study = CapacityStudy(
            paths.workload,
            paths.block_size,
            count_partial=paths.count_partial,
            with_outputs=paths.with_outputs,
        )
        table = study.table([0, 3, 9, 10**6])
        parts = (table.hit_tokens, table.policy_tokens, table.capacity_tokens)
        assert all((part >= 0).all() for part in parts)
        assert table.granularity_tokens >= 0
        assert table.cold_tokens >= 0
        missed = parts[1] + parts[2] + table.granularity_tokens + table.cold_tokens
        assert (parts[0] + missed == table.queried_tokens).all()
        assert study.distinct_blocks == study.paths.total_blocks - int(study.runs.seen.sum())


def test_one_request_at_a_time_the_engine_lies_between_two_neighbouring_capacities() -> None:
    # GIVEN prompts that end inside a block, so that vLLM never keeps a block twice
    for seed in range(80 if COMPILED else 5):
        rng = np.random.default_rng(seed)
        span = int(rng.choice([2, 4]))
        drawn = random_workload(
            seed, rows=60, span=span, longest=int(rng.integers(2, 10)), branching=2
        )
        prompts = drawn.prompt_tokens - (drawn.prompt_tokens % span == 0)
        workload = drawn.with_(prompt_tokens=prompts)
        blocks = int(rng.integers(34, 90))
        engine = Replay(
            workload,
            EngineConfig(num_blocks=blocks, block_size=span, max_num_seqs=1, max_model_len=200),
            DriveConfig(queue_depth=2),
        )
        for _ in engine.slices():
            pass
        curve = lru_curve(reuse_runs(request_paths(workload, span, with_outputs=True)))
        # THEN a running request's unhashed end takes one block of the pool, or none
        low, high = curve.tokens(np.array([blocks - 2, blocks - 1])).tolist()
        assert low <= int(engine.result().decisions["prefix_hits"]) <= high


@pytest.mark.parametrize("capacity", [-1, -(10**9), (1 << 40) + 1])
def test_a_capacity_that_no_cache_has_is_refused(capacity: int) -> None:
    runs = reuse_runs(random_paths(1))
    curve = lru_curve(runs)
    for ask in (curve.blocks, curve.tokens, Optimum(runs).hits):
        with pytest.raises(InputError, match="0 to 2\\*\\*40"):
            ask(capacity)
