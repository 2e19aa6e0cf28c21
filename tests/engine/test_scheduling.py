"""The embedded `Scheduler` serves tokens; a `Replay` of the same requests must decide the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.engine.profiles import EXAMPLES

from kvatlas.engine import (
    DriveConfig,
    EngineConfig,
    Replay,
    Request,
    Scheduler,
    SchedulerOutput,
)
from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

BLOCK = 4


def make_requests(rng: random.Random, count: int) -> list[Request]:
    """Prompts over few shared prefixes; some end on a block boundary."""
    prefixes = [[rng.randrange(50) for _ in range(rng.randrange(0, 30))] for _ in range(3)]
    requests = []
    for i in range(count):
        prompt = rng.choice(prefixes) + [rng.randrange(3) for _ in range(rng.randrange(1, 20))]
        requests.append(Request(f"r{i}", prompt, rng.randrange(1, 25), priority=i % 3))
    return requests


def output_token(request: Request) -> int:
    """The model: a number that only this request samples."""
    return 1000 + int(request.request_id[1:])


def as_workload(requests: list[Request]) -> Workload:
    """The same requests as columns: identities name whole prefixes, outputs included."""
    names: dict[tuple[int, ...], int] = {}
    ids, offsets = [], [0]
    for request in requests:
        tokens = request.all_token_ids[: request.num_prompt_tokens]
        tokens = tokens + [output_token(request)] * request.max_tokens
        for end in range(BLOCK, len(tokens) + BLOCK, BLOCK):
            ids.append(names.setdefault(tuple(tokens[:end]), len(names)))
        offsets.append(len(ids))
    count = len(requests)
    none = np.full(count, -1, np.int32)
    workload = Workload(
        name="tokens",
        source="test",
        arrival_s=np.zeros(count),
        prompt_tokens=np.array([r.num_prompt_tokens for r in requests], np.int32),
        output_tokens=np.array([r.max_tokens for r in requests], np.int32),
        tokens_per_id=BLOCK,
        ids=np.array(ids, np.int64),
        id_offsets=np.array(offsets, np.int64),
        num_ids=len(names),
        prefix_known=True,
        outputs_identified=True,
        session=none,
        parent=none,
        priority=np.array([r.priority for r in requests], np.int32),
        salt=np.zeros(count, np.int32),
    )
    workload.check()
    return workload


def serve(scheduler: Scheduler, requests: list[Request]) -> dict[str, int]:
    """Run to the end; with async scheduling one step ahead, as vLLM's engine loop."""
    ahead = int(scheduler.config.async_scheduling)
    for request in requests:
        scheduler.add_request(request)
    counts = {"steps": 0, "tokens": 0, "preemptions": 0, "finished": 0}
    pending: list[SchedulerOutput] = []
    while scheduler.has_requests() or pending:
        if scheduler.has_requests():
            pending.append(scheduler.schedule())
            counts["steps"] += 1
            counts["tokens"] += pending[-1].total_num_scheduled_tokens
            counts["preemptions"] += len(pending[-1].preempted)
            if len(pending) <= ahead:
                continue
        output = pending.pop(0)
        live = {r.request_id: r for r in requests}
        sampled = {name: output_token(live[name]) for name in output.sampling}
        counts["finished"] += len(scheduler.update_from_output(output, sampled))
        scheduler.check()
    return counts


@pytest.mark.parametrize("seed", range(max(3, EXAMPLES // 5)))
def test_serving_decides_as_replay(seed: int) -> None:
    """GIVEN tokens served through Scheduler WHEN replayed as identities THEN all counts agree."""
    rng = random.Random(seed)
    requests = make_requests(rng, 12 if EXAMPLES < 10 else 40)
    config = EngineConfig(
        num_blocks=rng.choice([20, 30, 60, 200]),
        block_size=BLOCK,
        max_num_seqs=rng.choice([2, 5, 16]),
        max_num_batched_tokens=rng.choice([16, 40, 200]),
        max_model_len=120,
        policy=rng.choice(["fcfs", "priority"]),
        async_scheduling=rng.random() < 0.4,
    )
    scheduler = Scheduler(config, secret=b"seed")
    replay = Replay(
        as_workload(requests), config, DriveConfig(queue_depth=len(requests), block_like_vllm=True)
    )
    result = replay.run().decisions
    replay.check()
    counts = serve(scheduler, requests)
    stats = scheduler.prefix_cache_stats
    assert counts["finished"] == len(requests) == result["finished"]
    assert counts["tokens"] == result["scheduled_tokens"]
    assert counts["preemptions"] == result["preemptions"]
    assert stats["queries"] == result["prefix_queries"]
    assert stats["hits"] == result["prefix_hits"]
    assert stats["preempted_hits"] == result["preempted_hits"]
    assert scheduler.usage == 0.0


def small() -> Scheduler:
    return Scheduler(EngineConfig(num_blocks=20, block_size=4, max_num_seqs=2, max_model_len=64))


def test_stop_token_ends_a_request() -> None:
    """GIVEN a stop token WHEN it is sampled THEN the request finishes before max_tokens."""
    scheduler = small()
    scheduler.add_request(Request("a", [1, 2, 3], 10, stop_token_ids=[7]))
    output = scheduler.schedule()
    assert scheduler.update_from_output(output, {"a": 5}) == []
    done = scheduler.update_from_output(scheduler.schedule(), {"a": [7]})
    assert [request.output_token_ids for request in done] == [[5, 7]]
    assert not scheduler.has_requests()


def test_abort_frees_running_and_waiting() -> None:
    """GIVEN a running and a waiting request WHEN aborted THEN all blocks are free again."""
    scheduler = Scheduler(
        EngineConfig(num_blocks=20, block_size=4, max_num_seqs=1, max_model_len=64)
    )
    for name in ("a", "b"):
        scheduler.add_request(Request(name, [1, 2, 3], 10))
    scheduler.update_from_output(scheduler.schedule(), {"a": 1})
    assert (scheduler.num_running, scheduler.num_waiting) == (1, 1)
    scheduler.abort("a")
    scheduler.abort("b")
    scheduler.abort("nobody")
    scheduler.check()
    assert scheduler.usage == 0.0
    assert not scheduler.has_requests()


def test_misuse_is_one_clear_line() -> None:
    """GIVEN wrong calls WHEN made THEN InputError says what to do."""
    scheduler = small()
    scheduler.add_request(Request("a", [1, 2, 3], 10))
    with pytest.raises(InputError, match="duplicate request id"):
        scheduler.add_request(Request("a", [1], 1))
    with pytest.raises(InputError, match="needs a prompt"):
        Request("b", [], 1)
    with pytest.raises(InputError, match="leaves no room"):
        scheduler.add_request(Request("long", list(range(64)), 1))
    output = scheduler.schedule()
    with pytest.raises(InputError, match="update_from_output first"):
        scheduler.schedule()
    with pytest.raises(InputError, match="must get one token"):
        scheduler.update_from_output(output, {})


def test_rows_are_used_again() -> None:
    """GIVEN room for 4 live requests WHEN 40 come one after another THEN all are served."""
    scheduler = Scheduler(
        EngineConfig(num_blocks=40, block_size=4, max_num_seqs=4, max_model_len=64),
        max_num_requests=4,
    )
    for i in range(40):
        request = Request(f"r{i}", [i, 1, 2, 3, 4], 2)
        scheduler.add_request(request)
        while scheduler.has_requests():
            output = scheduler.schedule()
            scheduler.update_from_output(output, dict.fromkeys(output.sampling, 9))
        assert request.output_token_ids == [9, 9]
    scheduler.check()
