"""Would another eviction policy help? All of them on one trace, and what to make of it."""

from kvatlas.measure.curves import CapacityStudy
from kvatlas.plan.policies import compare_policies, verdict
from kvatlas.workload import generate

study = CapacityStudy(generate("retrieval", seed=0, num_requests=1_000), block_size=16)
comparison = compare_policies(study, [2_000, 8_000, 32_000])

print("block hit rate    " + "".join(f"{blocks:>9,}" for blocks in comparison.capacity_blocks))
for row in comparison.rows:
    rates = row.hit_blocks / study.lru.queried_blocks
    print(f"{row.title:<18}" + "".join(f"{rate:>9.1%}" for rate in rates))

print()
print(verdict(comparison, study.lru.queried_blocks, focus_blocks=8_000)[0])
