"""How much does more KV memory buy? The same traffic on pools from tight to roomy."""

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.workload import generate

workload = generate("conversation", seed=0)  # 2,000 turns of a multi-turn chat service
BLOCK_TOKENS = 16

print("  blocks   tokens held   hit rate   preemptions   evictions   mean queue")
for num_blocks in (2_500, 5_000, 10_000, 20_000, 40_000, 80_000):
    config = EngineConfig(num_blocks=num_blocks, block_size=BLOCK_TOKENS)
    result = Replay(workload, config, DriveConfig(arrivals="timed")).run()
    queue_s = (result.first_scheduled_ms / 1e3 - workload.arrival_s).mean()
    decisions, evictions = result.decisions, int(result.sums["evictions"])
    print(
        f"{num_blocks:8,} {num_blocks * BLOCK_TOKENS:13,} {decisions['hit_rate']:10.1%}"
        f" {decisions['preemptions']:13,} {evictions:11,} {queue_s:10.2f} s"
    )
