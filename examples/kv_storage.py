"""Keys and values behind a block table: moved together, swapped out, read back unchanged.

The table is all that attention knows of the memory: whatever happens to the blocks, the table says
where they are now.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvatlas.storage import LAYOUTS, KVCacheMemoryPool

SHAPE: dict[str, Any] = {"num_layers": 4, "block_size": 16, "kv_heads": 2, "head_size": 64}
TOKENS = 60

device = KVCacheMemoryPool(64, **SHAPE, dtype="float16", layout="layer", zero_on_free=True)
host = KVCacheMemoryPool(16, **SHAPE, dtype="float16", layout="cross-layer")
print(f"{device.num_blocks} blocks of {device.bytes_per_block:,} bytes: {device.total_bytes:,}")

# What a model computed for 60 tokens, (layers, 2, tokens, heads, head size), goes into the blocks.
rng = np.random.default_rng(0)
computed = rng.standard_normal((4, 2, TOKENS, 2, 64)).astype(np.float16)
table = [40, 3, 17, 8]
for layer, view in enumerate(device.layers):
    for token in range(TOKENS):
        view[table[token // 16], :, token % 16] = computed[layer, :, token]


def read(pool: KVCacheMemoryPool, table: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return (layers, 2, tokens, heads, head size) through a block table."""
    shown = [layer[table].swapaxes(0, 1).reshape(2, -1, 2, 64) for layer in pool.layers]
    return np.stack(shown)[:, :, :TOKENS]


written = device.digest(table)

# The blocks come together in one batch: 8 and 5 change places, 3 stays where it is.
together = [2, 3, 4, 5]
device.move([*table, 5], [*together, 8])
table = together
print(f"moved to {table}: digests equal: {(device.digest(table) == written).all()}")

# Swap out into another layout, free (which zeroes), swap in elsewhere.
device.copy_to(host, table, [0, 1, 2, 3])
device.free(table)
print(f"freed: all zero: {not any(layer[table].any() for layer in device.layers)}")
table = [63, 1, 20, 21]
host.copy_to(device, [0, 1, 2, 3], table)
print(f"back in {table}: every token equal: {np.array_equal(read(device, table), computed)}")

stats = device.stats()
for what in ("moved", "copied", "received", "zeroed"):
    print(f"{what:>8} {getattr(stats, f'{what}_bytes'):>9,} bytes")
print(f"{'staged':>8} {stats.staged_bytes:>9,} bytes, for moves in a circle")
device.check()
host.check()

print()
for name, layout in LAYOUTS.items():
    print(f"{name:>11}: {layout.summary}")
