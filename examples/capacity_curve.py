"""How much memory for which hit rate: the exact curve, its knee, and what limits it."""

from kvatlas.measure.curves import CapacityStudy
from kvatlas.plan.capacity import advise, bounds_at
from kvatlas.workload import generate

study = CapacityStudy(generate("conversation", seed=0), block_size=16)
table = study.table([1_000, 2_000, 5_000, 10_000, 20_000, 40_000])

print("  blocks     LRU  optimum   a perfect policy would gain")
for blocks, hits, gain in zip(
    table.capacity_blocks, table.hit_tokens, table.policy_tokens, strict=True
):
    lru, best = hits / table.queried_tokens, (hits + gain) / table.queried_tokens
    print(f"{blocks:8,} {lru:7.1%} {best:8.1%}   {100 * (best - lru):.1f} points")

bounds = bounds_at(study, study.knee_blocks)
print(f"\nknee at {bounds.capacity_blocks:,} blocks; what limits it: {bounds.bottleneck}")

for advice in advise(study, targets=[0.3, 0.6], bytes_per_block=2 << 20):
    low, high = advice.low_blocks, advice.high_blocks
    state = "converged" if advice.converged else "not converged"
    print(f"{advice.target:.0%}: {advice.capacity_blocks:,} blocks, {low:,} to {high:,}, {state}")
