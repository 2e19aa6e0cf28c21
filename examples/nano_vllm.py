"""The same traffic under two engines: vLLM's 16-token blocks and nano-vLLM's 256-token blocks.

Both pools hold the same number of tokens. nano-vLLM's own block manager is shown at the end: four
prompts that share a beginning, by hand.
"""

from kvatlas.engine import EngineConfig, Replay
from kvatlas.engine.nano import BlockManager, NanoConfig, NanoReplay, Sequence
from kvatlas.workload import generate

POOL_TOKENS = 256_000
workload = generate("retrieval", seed=0, num_requests=500)

vllm = Replay(workload, EngineConfig(num_blocks=POOL_TOKENS // 16 + 1)).run()
nano = NanoReplay(workload, NanoConfig(num_blocks=POOL_TOKENS // 256)).run()
for name, result in (("vLLM 0.32", vllm), ("nano-vLLM", nano)):
    decisions = result.decisions
    print(
        f"{name}: hit rate {decisions['hit_rate']:.1%}, {decisions['steps']:,} steps, "
        f"{decisions['preemptions']} preemptions"
    )

manager = BlockManager(num_blocks=5, block_size=256)
shared = list(range(600))
for number in range(4):
    sequence = Sequence([*shared, 10_000 + number], block_size=256)
    cached = manager.can_allocate(sequence)
    if cached < 0:
        print(f"sequence {number}: has to wait, {manager.num_free_blocks} blocks are free")
        continue
    manager.allocate(sequence, cached)
    sequence.num_scheduled_tokens = sequence.num_tokens - sequence.num_cached_tokens
    manager.hash_blocks(sequence)
    print(f"sequence {number}: {cached} cached blocks, block table {sequence.block_table}")
