"""The serving loop: what it refuses in one line, what swaps, what must stay in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed here")

from kvatlas.engine import EngineConfig, Request, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.llama import LlamaEngine, LlamaShape, LlamaWeights, PagedLlama
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import SwapManager

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SHAPE = LlamaShape(
    vocab_size=61,
    hidden_size=24,
    intermediate_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=8,
)
MODEL = PagedLlama(SHAPE, LlamaWeights.random(SHAPE))
CONFIG = EngineConfig(num_blocks=12, block_size=4, max_model_len=64, max_num_seqs=2)


def make_pool(**changes: Any) -> KVCacheMemoryPool:
    """Return a pool that fits CONFIG and MODEL, but for `changes`."""
    sizes = {"num_layers": 2, "block_size": 4, "kv_heads": 2, "head_size": 8} | changes
    return KVCacheMemoryPool(sizes.pop("num_blocks", 12), **sizes)


def make_requests() -> list[Request]:
    """Three requests that do not fit together, and the first of them again."""
    prompts = [[at % 61 for at in range(start, start + 22)] for start in (0, 30, 60, 0)]
    return [Request(f"r{at}", prompt, max_tokens=9) for at, prompt in enumerate(prompts)]


@pytest.mark.parametrize(
    ("pool", "config", "message"),
    [
        ({"num_blocks": 11}, {}, "11 blocks of 4 tokens.*make 12 blocks of 4"),
        ({"block_size": 8}, {}, "12 blocks of 8 tokens.*make 12 blocks of 4"),
        ({"num_layers": 3}, {}, "3 layers of 2 heads of 8.*make 2 layers"),
        ({"kv_heads": 4}, {}, "2 layers of 4 heads of 8.*make 2 layers of 2 heads"),
        ({}, {"policy": "priority"}, "set forget_uncomputed=True"),
        (
            {},
            {"kv_cache_groups": (SlidingWindowSpec(block_size=4, sliding_window=8),)},
            "one group of full attention.*SlidingWindowSpec",
        ),
    ],
)
def test_what_does_not_fit(pool: dict[str, int], config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LlamaEngine(MODEL, make_pool(**pool), CONFIG.with_(**config))


def test_a_request_that_can_never_fit() -> None:
    engine = LlamaEngine(MODEL, make_pool(), CONFIG)
    with pytest.raises(InputError, match=r"can never fit.*11 blocks of 4 tokens"):
        engine.add_request(Request("long", [1] * 30, max_tokens=20))
    assert not engine.scheduler.has_requests()


def test_what_comes_back_from_a_tier_is_not_computed_again() -> None:
    # GIVEN a pool that forgets the first request before its prompt comes again
    alone = LlamaEngine(MODEL, make_pool(), CONFIG.with_(max_num_seqs=1))
    right = alone.generate(make_requests())
    # WHEN there is a tier below it, of this much memory
    pool = make_pool()
    swap = SwapManager(pool, host_bytes=20 * pool.bytes_per_block)
    engine = LlamaEngine(MODEL, pool, CONFIG.with_(max_num_seqs=1), swap=swap)
    tokens = engine.generate(make_requests())
    # THEN whole blocks come back, and the words are the same
    assert tokens == right
    assert tokens["r0"] == tokens["r3"]
    assert engine.restored_tokens > 0
    assert engine.restored_tokens % 4 == 0
    assert alone.restored_tokens == 0


def test_scheduled_ahead_stays_in_place() -> None:
    # GIVEN async scheduling WHEN a step has been computed THEN the next one's blocks are named
    engine = LlamaEngine(MODEL, make_pool(), CONFIG.with_(async_scheduling=True))
    engine.add_request(Request("r", [5] * 10, max_tokens=4))
    engine.step()
    assert engine.in_flight_blocks() == set(engine.scheduler.get_block_ids("r")[0])
    # and without it there is nothing ahead
    engine = LlamaEngine(MODEL, make_pool(), CONFIG)
    engine.add_request(Request("r", [5] * 10, max_tokens=4))
    engine.step()
    assert engine.in_flight_blocks() == set()


def test_aborting_keeps_what_was_said() -> None:
    engine = LlamaEngine(MODEL, make_pool(), CONFIG)
    request = Request("r", [5] * 10, max_tokens=8)
    engine.add_request(request)
    engine.step()
    engine.step()
    engine.abort("r")
    engine.abort("nobody")
    assert len(request.output_token_ids) == 2
    assert not engine.scheduler.has_requests()
    assert engine.scheduler.usage == 0


def test_the_example_prints_what_is_recorded(tmp_path: Path) -> None:
    # GIVEN torch WHEN the example runs THEN it prints what is recorded beside it
    examples = Path(__file__).resolve().parents[2] / "examples"
    command = [sys.executable, str(examples / "paged_llama.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    recorded = (examples / "expected" / "paged_llama.txt").read_text(encoding="utf-8")
    assert done.stdout.splitlines() == recorded.splitlines()
