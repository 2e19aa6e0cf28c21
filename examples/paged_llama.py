"""A small transformer whose keys and values lie in our blocks: they move, its words do not change.

Needs the extra `torch`. The same requests run twice: once in a pool with room for all of them, one
at a time; once together in a pool that is too small, where they share blocks, lose them, get them
back from a host tier, and where between any two steps the blocks are moved to other places.
"""

import random
import sys
from importlib.util import find_spec

if find_spec("torch") is None:
    sys.exit("this example needs the extra torch: pip install 'kvatlas[torch]'")

from kvatlas.defrag import Compact, ContiguousTables, MemoryDefragmenter
from kvatlas.engine import EngineConfig, Request
from kvatlas.llama import LlamaEngine, LlamaShape, LlamaWeights, PagedLlama
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import SwapManager

SHAPE = LlamaShape(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
)
MODEL = PagedLlama(SHAPE, LlamaWeights.random(SHAPE, seed=7))


def make_requests() -> list[Request]:
    """Eight questions behind one system prompt."""
    rng = random.Random(0)
    system = [rng.randrange(512) for _ in range(40)]
    questions = [[rng.randrange(512) for _ in range(rng.randrange(5, 50))] for _ in range(8)]
    return [
        Request(f"user-{at}", system + question, max_tokens=24)
        for at, question in enumerate(questions)
    ]


def make_pool(num_blocks: int) -> KVCacheMemoryPool:
    """Return the memory of `num_blocks` blocks of 8 tokens."""
    return KVCacheMemoryPool(
        num_blocks,
        num_layers=SHAPE.num_layers,
        block_size=8,
        kv_heads=SHAPE.num_kv_heads,
        head_size=SHAPE.head_size,
        backend="torch",
    )


plenty = EngineConfig(num_blocks=200, block_size=8, max_num_seqs=1, max_model_len=256)
alone = LlamaEngine(MODEL, make_pool(200), plenty).generate(make_requests())

short = EngineConfig(
    num_blocks=32, block_size=8, max_num_seqs=6, max_num_batched_tokens=48, max_model_len=256
)
pool = make_pool(32)
swap = SwapManager(pool, host_bytes=40 * pool.bytes_per_block)
engine = LlamaEngine(MODEL, pool, short, swap=swap)
mover = MemoryDefragmenter(engine.scheduler, pool, engine.in_flight_blocks)
requests = make_requests()
for request in requests:
    engine.add_request(request)
steps = moved = 0
while engine.scheduler.has_requests():
    engine.step()
    steps += 1
    for goal in (ContiguousTables(), Compact(keep_cached=True)):
        report = mover.defragment(goal)  # copies, rewrites every table, verifies every digest
        moved += report.moved_blocks if report else 0

together = {request.request_id: request.output_token_ids for request in requests}
hits = engine.scheduler.prefix_cache_stats["hits"]
print(f"{steps} steps, {sum(request.num_preemptions for request in requests)} preemptions")
print(f"{hits} prompt tokens came from the prefix cache, {engine.restored_tokens} from the host")
print(f"{moved} blocks moved, {moved * pool.bytes_per_block / 1e6:.1f} MB")
print(f"user-0 alone:    {alone['user-0'][:12]}")
print(f"user-0 together: {together['user-0'][:12]}")
print(f"all {sum(map(len, alone.values()))} tokens equal: {together == alone}")
