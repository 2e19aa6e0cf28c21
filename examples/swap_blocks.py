"""Blocks leave the device for host memory and disk, and come back byte for byte."""

import numpy as np

from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import SwapManager

device = KVCacheMemoryPool(8, num_layers=2, block_size=16, kv_heads=2, head_size=8)
size = device.bytes_per_block
swap = SwapManager(device, host_bytes=4 * size, disk_bytes=100 * size)

# Twelve contents, named by keys, pass through one block of the device.
digests = {}
rng = np.random.default_rng(0)
for key in range(12):
    for layer in device.layers:
        layer[3] = rng.standard_normal(layer.shape[1:])
    digests[key] = int(device.digest([3])[0])
    swap.swap_out([key], [3])

print("a prompt of keys 0 to 11 finds", swap.lookup(range(12)), "blocks")
print("on the host:", swap.host.used_bytes // size, "- handed down:", swap.host.demoted_blocks)

# What is held stays, whatever else goes out meanwhile.
with swap.held(range(8)) as found:
    swap.swap_out([100, 101], [5, 6])
    swap.load(found, range(8))

back = device.digest(range(8)).tolist()
print("as they were:", back == [digests[key] for key in range(8)])
print("read from the host:", swap.host.read_blocks)
if swap.disk is not None:
    print("read from the disk:", swap.disk.read_blocks)
swap.check()
swap.close()
