"""One budget for the device and a host tier: how the division moves while a trace is replayed."""

import numpy as np

from kvatlas.engine import DriveConfig, EngineConfig, ReplayResult
from kvatlas.pressure.hybrid import BudgetedReplay, MemoryBudget, Tuning
from kvatlas.workload import generate

BLOCK = 2 << 20  # bytes of 16 tokens in all layers
PRICE = 8  # a byte on the device is worth eight on the host

workload = generate("conversation", seed=3, num_requests=400)
workload = workload.with_(arrival_s=workload.arrival_s / 6)  # so fast that some have to wait
config = EngineConfig(num_blocks=2, max_num_seqs=24, host_bandwidth=25e9, host_block_bytes=BLOCK)


def queue_s(result: ReplayResult) -> float:
    """Return the mean seconds from arrival to first scheduled."""
    return float(np.mean(result.first_scheduled_ms / 1e3 - workload.arrival_s))


print("division      device    host   hit rate   queue, mean")
for name, tuning in (("as it starts", None), ("tuned", Tuning(interval=32))):
    budget = MemoryBudget(
        budget_bytes=PRICE * 1_600 * BLOCK, block_bytes=BLOCK, device_price=PRICE, tuning=tuning
    )
    replay = BudgetedReplay(workload, config, DriveConfig(arrivals="timed"), budget=budget)
    result = replay.run()
    now, hit_rate = replay.loop.division, float(result.decisions["hit_rate"])
    blocks = f"{now.device_blocks:7,} {now.host_blocks:7,}"
    print(f"{name:12} {blocks} {hit_rate:10.1%} {queue_s(result):12.2f} s")

print(f"\n{replay.loop.moves} moves in {replay.loop.count} looks, the first of them:")
for at_s, look in list(zip(replay.clock_s, replay.loop.looks, strict=True))[:4]:
    print(f"{at_s:6.1f} s: {look.why}")
