"""An engine of one's own over both memories: what a request reads is what its tokens wrote."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from kvatlas.engine import EngineConfig, Request, Scheduler
from kvatlas.engine.relabel import relabel_engine
from kvatlas.errors import InputError
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import HostBlocks

pytestmark = pytest.mark.variants

_BLOCK = 4


def _prompts(rng: random.Random, count: int) -> list[list[int]]:
    """Return prompts over few shared beginnings."""
    starts = [[rng.randrange(9) for _ in range(rng.randrange(0, 30))] for _ in range(6)]
    return [
        rng.choice(starts) + [rng.randrange(3) for _ in range(rng.randrange(1, 14))]
        for _ in range(count)
    ]


def _marks(tokens: list[int]) -> list[float]:
    """Return a number per position that depends on all tokens up to it."""
    mark, marks = 7, []
    for token in tokens:
        mark = (mark * 31 + token + 1) % (1 << 20)
        marks.append(float(mark))
    return marks


class Model:
    """Writes the marks of the tokens it is given, and reads all marks before them."""

    def __init__(self, num_blocks: int, host_blocks: int) -> None:
        self.device = KVCacheMemoryPool(
            num_blocks, num_layers=1, block_size=_BLOCK, kv_heads=1, head_size=2
        )
        self.host = HostBlocks(self.device, host_blocks)
        self.slots = self.device.key(0)[..., 0, 0]

    def run(self, request: Request, start: int, stop: int, table: list[int]) -> None:
        marks = _marks(request.all_token_ids[:stop])
        for position in range(stop):
            block, slot = table[position // _BLOCK], position % _BLOCK
            if position < start:
                assert self.slots[block, slot] == marks[position], (request.request_id, position)
            else:
                self.slots[block, slot] = marks[position]


def serve(config: EngineConfig, seed: int, *, shuffle: bool = False) -> tuple[int, int]:
    """Serve requests to the end; return the blocks that came back and the preemptions."""
    rng = random.Random(seed)
    scheduler, model = Scheduler(config), Model(config.num_blocks, config.host_blocks)
    requests = {
        f"r{i}": Request(f"r{i}", prompt, rng.randrange(1, 12))
        for i, prompt in enumerate(_prompts(rng, 40))
    }
    for request in requests.values():
        scheduler.add_request(request)
    came_back = preempted = 0
    while scheduler.has_requests():
        output = scheduler.schedule()
        preempted += len(output.preempted)
        model.host.apply(output.moves)
        came_back += int(output.moves[:, 0].sum())
        for name, tokens in output.num_scheduled_tokens.items():
            request = requests[name]
            stop = request.num_computed_tokens
            model.run(request, stop - tokens, stop, output.block_tables[name][0])
        scheduler.update_from_output(output, dict.fromkeys(output.sampling, 5))
        scheduler.check()
        if shuffle and rng.random() < 0.3:
            new_id = np.arange(config.num_blocks)
            new_id[1:] = np.random.default_rng(rng.randrange(99)).permutation(new_id[1:])
            relabel_engine(scheduler._engine, new_id)
            model.device.move(np.arange(config.num_blocks), new_id)
    return came_back, preempted


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host_blocks": 3},
        {"host_write_back": "free"},
        {"host_write_back": "preempt", "swap": "always"},
        {"max_num_batched_tokens": 9},
    ],
    ids=str,
)
def test_reads_what_was_written(changes: dict[str, Any]) -> None:
    """GIVEN a small pool WHEN blocks go to the host and back THEN every position reads its own."""
    settings = {"num_blocks": 26, "block_size": _BLOCK, "max_num_seqs": 5, "host_blocks": 60}
    config = EngineConfig(**{**settings, "max_num_batched_tokens": 64, **changes})
    totals = np.zeros(2, int)
    for seed in range(6):
        totals += serve(config, seed)
    assert (totals > 0).all()


@pytest.mark.parametrize("write_back", ["evict", "free"])
def test_blocks_may_have_other_ids_in_between(write_back: Any) -> None:
    """GIVEN moves not yet carried out WHEN blocks are relabelled and moved THEN nothing changes."""
    config = EngineConfig(
        num_blocks=26,
        block_size=_BLOCK,
        max_num_seqs=5,
        host_blocks=40,
        host_write_back=write_back,
    )
    assert [serve(config, seed) for seed in range(4)] == [
        serve(config, seed, shuffle=True) for seed in range(4)
    ]


def test_what_computing_again_takes_is_not_known_here() -> None:
    config = EngineConfig(num_blocks=26, host_blocks=5, host_bandwidth=25e9, host_block_bytes=2**21)
    with pytest.raises(InputError, match="known in a replay only") as refused:
        Scheduler(config)
    assert refused.value.field == "swap"
    Scheduler(config.with_(swap="always"))
