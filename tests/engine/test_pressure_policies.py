"""The policies under pressure: each on and off, alone and together, against what it promises."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import small_workload
from tests.engine.profiles import EXAMPLES
from tests.engine.test_scheduling import BLOCK, as_workload, make_requests, serve

from kvatlas.engine import DriveConfig, EngineConfig, KVCacheManager, Replay, Scheduler
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import RUNNING
from kvatlas.engine.recorded import recording_header, snapshot_of_engine
from kvatlas.engine.results import ReplayResult
from kvatlas.engine.specs import FullAttentionSpec, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.events import Chunk, PoolState, snapshot_of
from kvatlas.workload import Workload, generate

NOTHING: dict[str, Any] = {}
EACH: tuple[dict[str, Any], ...] = (
    {"lazy_free_steps": 20},
    {"protect_waiting": 8},
    {"preallocate_blocks": 4},
    {"preallocate_predicted": True},
    {"preallocate_blocks": 3, "preallocate_predicted": True},
    {"admission_growth": 1.0},
)
mixes = st.fixed_dictionaries(
    {
        "lazy_free_steps": st.sampled_from([0, 1, 3, 50]),
        "protect_waiting": st.sampled_from([0, 1, 4]),
        "preallocate_blocks": st.sampled_from([0, 1, 5]),
        "preallocate_predicted": st.booleans(),
        "admission_growth": st.sampled_from([0.0, 0.3, 1.0]),
    }
)


def conversation(count: int = 120) -> Workload:
    return generate("conversation", seed=3, num_requests=count)


def run(workload: Workload, policies: dict[str, Any], **changes: Any) -> ReplayResult:
    config = EngineConfig(**({"num_blocks": 900, "max_num_seqs": 24} | changes | policies))
    return Replay(workload, config, DriveConfig(arrivals="timed")).run()


def counts(result: ReplayResult) -> dict[str, object]:
    """What was decided, without checksums."""
    return {name: value for name, value in result.decisions.items() if "sha" not in name}


@pytest.mark.variants
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    mix=mixes,
    blocks=st.integers(16, 90),
    steps=st.sampled_from([2, 9, 1 << 16]),
    options=st.fixed_dictionaries(
        {
            "max_num_seqs": st.integers(1, 6),
            "max_num_batched_tokens": st.integers(8, 64),
            "policy": st.sampled_from(["fcfs", "priority"]),
            "watermark": st.sampled_from([0.0, 0.1]),
            "scheduler_reserve_full_isl": st.booleans(),
            "enable_prefix_caching": st.booleans(),
            "async_scheduling": st.booleans(),
        }
    ),
    timed=st.booleans(),
    hybrid=st.booleans(),
)
def test_any_mix_keeps_every_promise(
    seed: int,
    mix: dict[str, Any],
    blocks: int,
    steps: int,
    options: dict[str, Any],
    timed: bool,
    hybrid: bool,
) -> None:
    """GIVEN any mix WHEN replayed under pressure THEN books and events hold, and all are served.

    The full log of decisions switches gliding off: stepping must decide the same.
    """
    groups = None
    if hybrid:
        window = SlidingWindowSpec(block_size=4, sliding_window=7)
        groups, blocks = (FullAttentionSpec(block_size=4), window), 2 * blocks
    config = EngineConfig(
        num_blocks=blocks, block_size=4, kv_cache_groups=groups, max_model_len=128, **options, **mix
    )
    drive = DriveConfig(arrivals="timed" if timed else "backlog", queue_depth=5)
    workload = small_workload(seed)
    chunks: list[Chunk] = []
    replay = Replay(workload, config, drive, on_events=lambda chunk: chunks.append(chunk.copy()))
    state = PoolState(recording_header(replay, version="test", engine="test"))
    for _ in replay.slices(max_steps=steps):
        replay.check()
        for chunk in chunks:
            state.advance(chunk)
        chunks.clear()
        state.check()
    for chunk in chunks:
        state.advance(chunk)
    seen = snapshot_of(state)
    assert seen == snapshot_of_engine(replay.engine, seen.event, seen.step, seen.time_s)
    replay.check()
    glided = replay.result()
    assert int(glided.decisions["finished"]) + len(glided.rejected) == workload.num_requests
    stepped = Replay(workload, config, drive, on_words=lambda words: None).run()
    assert counts(stepped) == counts(glided)
    assert stepped.sums == pytest.approx(glided.sums)


@pytest.mark.variants
@pytest.mark.parametrize("mix", EACH, ids=str)
def test_each_serves_everybody_in_a_real_pool(mix: dict[str, Any]) -> None:
    """GIVEN a policy WHEN a conversation is replayed THEN it acts, and the books hold."""
    config = EngineConfig(num_blocks=900, max_num_seqs=24, **mix)
    replay = Replay(conversation(), config, DriveConfig(arrivals="timed"))
    for _ in replay.slices(max_steps=1000):
        replay.check()
    replay.check()
    assert replay.result().decisions["finished"] == 120
    pressure = replay.engine.pressure
    assert pressure is not None
    acted = {
        "lazy_free_steps": "lazy_kept",
        "protect_waiting": "refreshed_blocks",
        "preallocate_blocks": "allocated_ahead",
        "preallocate_predicted": "allocated_ahead",
        "admission_growth": "held_back",
    }
    for name in mix:
        assert int(getattr(pressure.info, acted[name])) > 0, name


def test_off_is_nothing_at_all() -> None:
    """GIVEN no policy WHEN an engine is made THEN it has no state for one."""
    assert Replay(conversation(), EngineConfig(num_blocks=900)).engine.pressure is None


@pytest.mark.variants
@pytest.mark.parametrize("mix", EACH[:-1], ids=str)
def test_with_room_for_all_they_change_no_decision(mix: dict[str, Any]) -> None:
    """GIVEN a pool that is never full WHEN a policy is on THEN hits and steps are as without."""
    with_it = run(conversation(), mix, num_blocks=30_000)
    without = run(conversation(), NOTHING, num_blocks=30_000)
    lasting = ("mean_usage", "peak_usage")
    ours, theirs = counts(with_it), counts(without)
    for name in lasting:
        ours.pop(name), theirs.pop(name)
    assert ours == theirs
    assert np.array_equal(with_it.finished_ms, without.finished_ms)


@pytest.mark.variants
def test_lazy_blocks_come_back_when_said() -> None:
    """GIVEN blocks that stay 7 steps WHEN looked at after each THEN who owns what is as said."""
    lasting = 7
    config = EngineConfig(num_blocks=12_000, max_num_seqs=24, lazy_free_steps=lasting)
    replay = Replay(conversation(40), config, on_words=lambda words: None)  # no gliding
    engine = replay.engine
    tables: dict[int, set[int]] = {}
    left: dict[int, tuple[int, set[int]]] = {}
    seen = 0
    for _ in replay.slices(max_steps=1):
        running = np.flatnonzero(engine.requests["status"] == RUNNING).tolist()
        for row in set(tables) - set(running):
            left[row] = (replay.steps, tables[row])
        tables = {
            row: set(
                engine.table[
                    0,
                    engine.requests[row].slot,
                    : engine.tables[0, engine.requests[row].slot].length,
                ].tolist()
            )
            for row in running
        }
        owned = set().union(*tables.values())
        for at, blocks in left.values():
            # It finished when step `at` was over, and is there through `lasting` steps more. Its
            # last step may have given it a block that was never seen here.
            if replay.steps <= at + lasting:
                owned |= blocks
        used = config.num_blocks - 1 - int(engine.pool.info.free)
        assert len(owned) <= used <= len(owned) + len(left)
        left = {row: each for row, each in left.items() if replay.steps <= each[0] + lasting}
        seen += bool(left)
    assert seen > 20


@pytest.mark.rare
@pytest.mark.parametrize("name", ["lfu", "sieve", "session-aware"])
def test_lazy_goes_with_every_eviction_policy(name: str) -> None:
    config = EngineConfig(num_blocks=900, max_num_seqs=24, eviction_policy=name, lazy_free_steps=30)
    replay = Replay(conversation(), config)
    for _ in replay.slices(max_steps=1000):
        replay.check()
    assert replay.result().decisions["finished"] == 120


@pytest.mark.variants
@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_what_waits_keeps_its_hits(policy: str) -> None:
    """GIVEN protection WHEN others evict THEN who waits loses no hit within the guard."""
    config = EngineConfig(
        num_blocks=900,
        max_num_seqs=24,
        protect_waiting=4,
        policy=policy,  # type: ignore[arg-type]
    )
    replay = Replay(conversation(), config, on_words=lambda words: None)
    engine = replay.engine
    assert engine.pressure is not None
    info, watched = engine.pressure.info, engine.pressure.watched
    before: dict[int, int] = {}
    compared = 0
    for _ in replay.slices(max_steps=1):
        now: dict[int, int] = {}
        if int(info.removed) < int(info.guard):
            for row in watched.tolist():
                if row >= 0 and engine.requests[row].slot < 0:
                    waits = int(engine.requests[row].num_tokens) - 1
                    now[row] = int(entries.lookup(engine, row, waits)[0])
        for row, hit in now.items():
            assert hit >= before.get(row, 0)
            compared += row in before and hit > 0
        before = now
    assert compared > 100


@pytest.mark.variants
def test_blocks_ahead_are_as_many_as_said() -> None:
    """GIVEN 5 blocks ahead WHEN a request decodes THEN its table never holds more than that."""
    config = EngineConfig(num_blocks=12_000, max_num_seqs=24, preallocate_blocks=5)
    replay = Replay(conversation(40), config, on_words=lambda words: None)
    engine, most = replay.engine, 0
    for _ in replay.slices(max_steps=1):
        for row in engine.running[: int(engine.queue.num_running)].tolist():
            request = engine.requests[row]
            ahead = int(engine.tables[0, request.slot].length) - -(-int(request.computed) // 16)
            assert 0 <= ahead <= 5 + int(request.computed < request.prompt) * 10**6
            most = max(most, ahead)
    assert most == 5


def bucket(tokens: int) -> int:
    """The naive bucket: 16 of one token, then eighths of octaves."""
    if tokens < 16:
        return tokens
    octave = int(np.floor(np.log2(tokens)))
    return 16 + (octave - 4) * 8 + int((tokens - 2**octave) // 2 ** (octave - 3))


@pytest.mark.variants
def test_lengths_are_learnt_as_they_finish() -> None:
    """GIVEN finished requests WHEN the engine predicts THEN it is their mean, and no longer one."""
    workload = conversation()
    config = EngineConfig(num_blocks=900, max_num_seqs=24, admission_growth=0.5)
    replay = Replay(workload, config)
    replay.run()
    pressure = replay.engine.pressure
    assert pressure is not None
    outputs = workload.output_tokens.astype(np.int64)
    buckets = np.array([bucket(int(tokens)) for tokens in outputs])
    assert int(pressure.info.finished) == outputs.size
    for at in range(int(buckets.max()) + 2):
        longer = outputs[buckets > at]
        assert int(pressure.lengths[at].longer_count) == longer.size
        assert int(pressure.lengths[at].longer_tokens) == longer.sum()


@pytest.mark.variants
def test_admission_by_growth_prevents_preemptions() -> None:
    """GIVEN outputs of one length WHEN admission leaves room for growth THEN nobody is preempted.

    Until the first has finished nothing can be predicted; the first wave is one request here.
    """
    rows = 60
    base = generate("conversation", seed=3, num_requests=rows)
    workload = base.with_(
        prompt_tokens=np.full(rows, 64, np.int32),
        output_tokens=np.full(rows, 200, np.int32),
        arrival_s=np.concatenate(([0.0], np.full(rows - 1, 60.0))),
        ids=np.zeros(0, np.int64),
        id_offsets=np.zeros(rows + 1, np.int64),
        num_ids=0,
        prefix_known=False,
        outputs_identified=False,
    )
    off = run(workload, NOTHING, num_blocks=100)
    on = run(workload, {"admission_growth": 1.0}, num_blocks=100)
    assert int(off.decisions["preemptions"]) > 10
    assert on.decisions["preemptions"] == 0
    assert on.decisions["finished"] == off.decisions["finished"] == rows


@pytest.mark.variants
@pytest.mark.parametrize("seed", range(max(3, EXAMPLES // 10)))
def test_serving_decides_as_replay_with_policies(seed: int) -> None:
    """GIVEN policies WHEN tokens go through Scheduler THEN all counts are the replay's."""
    rng = random.Random(seed)
    requests = make_requests(rng, 12 if EXAMPLES < 10 else 40)
    config = EngineConfig(
        num_blocks=rng.choice([30, 60]),
        block_size=BLOCK,
        max_num_seqs=rng.choice([2, 5, 16]),
        max_num_batched_tokens=rng.choice([16, 40, 200]),
        max_model_len=120,
        policy=rng.choice(["fcfs", "priority"]),
        async_scheduling=rng.random() < 0.4,
        lazy_free_steps=rng.choice([0, 2, 9]),
        protect_waiting=rng.choice([0, 3]),
        preallocate_blocks=rng.choice([0, 2]),
        admission_growth=rng.choice([0.0, 0.5]),
    )
    drive = DriveConfig(queue_depth=len(requests), block_like_vllm=True)
    result = Replay(as_workload(requests), config, drive).run().decisions
    scheduler = Scheduler(config, secret=b"seed")
    served = serve(scheduler, requests)
    assert served["finished"] == len(requests) == result["finished"]
    assert served["tokens"] == result["scheduled_tokens"]
    assert served["preemptions"] == result["preemptions"]
    assert scheduler.prefix_cache_stats["hits"] == result["prefix_hits"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lazy_free_steps", -1),
        ("protect_waiting", -2),
        ("preallocate_blocks", 10**9),
        ("admission_growth", 1.5),
        ("admission_growth", float("nan")),
    ],
)
def test_a_bad_setting_is_one_line(field: str, value: float) -> None:
    with pytest.raises(InputError) as refused:
        EngineConfig(num_blocks=100, **{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{"eviction_policy": "lfu"}, {"placement": "best-fit-any"}], ids=str
)
def test_protection_needs_the_queues_order(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="protect_waiting"):
        EngineConfig(num_blocks=10, protect_waiting=2, **changes)


def test_a_manager_alone_has_no_scheduler() -> None:
    with pytest.raises(InputError, match="the scheduler's"):
        KVCacheManager(EngineConfig(num_blocks=100, lazy_free_steps=2))
