"""A byte arena: allocations of any size, pressure, compaction, size classes that follow demand."""

import numpy as np

from kvatlas.storage.arena import GPUMemoryPool, IntelligentMemoryPool

# Requests keep their KV in one piece each: sizes differ, and holes are left where they end.
rng = np.random.default_rng(0)
pool = GPUMemoryPool("64MiB", granule=4096)
held = pool.allocate_many(rng.integers(100_000, 4_000_000, 40))
fitted = held[held >= 0]
pool.free_many(fitted[::2])
seen = pool.statistics()
print(f"{fitted.size} allocations fitted; {seen.live} are left")
print(f"free: {seen.free_bytes / 2**20:.1f} MiB in {seen.free_ranges} ranges,", end=" ")
print(f"the largest {seen.largest_free_bytes / 2**20:.1f} MiB")

# A request that finds its bytes free, but apart: under pressure the pool may be compacted.
wanted = 16 << 20
print(f"16 MiB: {pool.allocate(wanted)}")
pool.on_pressure = lambda nbytes: pool.compact(nbytes)
got = pool.allocate(wanted)
assert got is not None
got.view("float32")[:] = 1.0
seen = pool.statistics()
print(f"16 MiB after compaction: {got.nbytes >> 20} MiB, rescued {seen.pressure_rescues} time")
pool.check()

# Size classes keep what was freed for the next request of that size.
classes = IntelligentMemoryPool("64MiB")
for _ in range(200):
    classes.free_many(classes.allocate_many(rng.integers(1, 50_000, 100)))
busiest = max(classes.classes(), key=lambda each: each.hits)
print(f"{busiest.nbytes:,} bytes: {busiest.hit_rate:.1%} of the requests found one waiting")
waiting = classes.statistics().cached_bytes
returned = classes.trim()
left = classes.statistics()
print(f"waiting: {waiting >> 10:,} KiB; after trim: {left.cached_bytes} B,", end=" ")
print(f"and all that is free is {left.free_ranges} range")
