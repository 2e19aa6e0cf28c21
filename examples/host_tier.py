"""How much does host memory below the device buy? A replay per size, and when it does not pay."""

from kvatlas.engine import EngineConfig, Replay
from kvatlas.tiers import SwapOrRecompute
from kvatlas.workload import generate

workload = generate("conversation", seed=0).head(400)
device = EngineConfig(num_blocks=3_000)
block_bytes = 2 * 1024**2  # 16 tokens of Llama 3.1 8B in bfloat16

print("host blocks   hit rate   from the host   moving")
for host_blocks in (0, 1_500, 6_000, 24_000):
    config = device.with_(
        host_blocks=host_blocks, host_bandwidth=25e9, host_block_bytes=block_bytes
    )
    result = Replay(workload, config).run()
    queries = int(result.decisions["prefix_queries"])
    hits = int(result.decisions["prefix_hits"]) / queries
    from_host = result.sums["restored"] / queries
    moving = result.sums.get("host_moving_ms", 0.0) / result.sums["busy_ms"]
    print(f"{host_blocks:>11,} {hits:>10.1%} {from_host:>15.1%} {moving:>8.1%}")

costs = SwapOrRecompute(
    bytes_per_token=block_bytes / 16,
    flops_per_token=16.06e9,
    flops_per_token_pair=524_288,
    flops_per_s=400e12,
    read_bandwidth=25e9,
)
print()
print(costs.decide(1_000).text)
print(f"below {costs.break_even_bandwidth(1_000) / 1e9:.1f} GB/s computing again is sooner")
