"""Which block size fits the lengths that come: predicted from lengths, measured by replay."""

from kvatlas.engine import EngineConfig
from kvatlas.plan import AdaptiveBlockSizer, measure_block_sizes
from kvatlas.workload import generate

workload = generate("conversation", seed=0, num_requests=600)
config = EngineConfig(num_blocks=200_000, enable_prefix_caching=False)
sizer = AdaptiveBlockSizer.of(workload, (16, 32, 64, 128, 256), config=config)
advice = sizer.recommend()

measured = measure_block_sizes(workload, config, candidates=sizer.candidates)
print("block   expected waste   replayed   ceiling of the hit rate   blocks per request")
for estimate, row in zip(advice.estimates, measured, strict=True):
    assert row.waste is not None
    assert estimate.ceiling_token_hit_rate is not None
    print(
        f"{estimate.block_size:5} {estimate.expected_waste:16.2%} {row.waste:10.2%}"
        f" {estimate.ceiling_token_hit_rate:25.1%} {estimate.mean_blocks:20.1f}"
    )
print(f"\n{advice.block_size}: {advice.reason}")

# Lengths change: the sizer follows what it has seen lately.
follower = AdaptiveBlockSizer(window=200, current=16)
for name, prompt, output in (("short chats", 400, 150), ("long documents", 60_000, 300)):
    follower.observe([prompt] * 200, [output] * 200)
    print(f"{name}: {follower.recommend().block_size}-token blocks")
