"""Blocks that lie scattered, moved to where they help: plan, decision, report.

Run: python examples/defragment.py
"""

from __future__ import annotations

import numpy as np

from kvatlas.defrag import ContiguousTables, Costs, MemoryDefragmenter, ReleasePages
from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.storage import KVCacheMemoryPool

config = EngineConfig(num_blocks=257, block_size=16, max_num_seqs=8, max_model_len=1024)
manager = KVCacheManager(config, secret=b"example")
storage = KVCacheMemoryPool(257, num_layers=2, block_size=16, kv_heads=2, head_size=32)

# Eight requests grow in turns, so that each one's blocks lie between the others'.
requests = [Request(f"r{i}", list(range(1000 * i, 1000 * i + 320)), 64) for i in range(8)]
for _ in range(20):
    for request in requests:
        manager.allocate_slots(request, 16)
        request.num_computed_tokens += 16
for i, request in enumerate(requests):
    (table,) = manager.get_block_ids(request.request_id)
    storage.layers[0][table] = i  # the model would write keys and values
for request in requests[2:]:
    manager.free(request)  # six are done; what they cached stays

defragmenter = MemoryDefragmenter(manager, storage)
now = defragmenter.detect()
print(f"{now.used_blocks} used, {now.cached_blocks} cached, {now.empty_blocks} empty blocks")
print(f"{now.table_runs} runs in {now.tables} block tables, {now.free_pages(32)} free pages of 32")

print("\nWho asks for neighbours?")
nobody = Costs(copy_bandwidth=10e9)
transfers = Costs(copy_bandwidth=10e9, transfers=100, descriptor_s=2e-6)
for costs in (nobody, transfers):
    print(defragmenter.should_defragment(ContiguousTables(), costs).why)

print("\nPages of 32 blocks, to give back")
released = defragmenter.defragment(ReleasePages(blocks_per_page=32))
assert released is not None
free = released.after.free_pages(32)
print(f"{released.moved_blocks} blocks moved, {now.free_pages(32)} -> {free} pages are free")

print("\nEvery table in one piece")
plan = defragmenter.plan(ContiguousTables())
assert plan is not None
report = defragmenter.run(plan)  # verified: books, digests of the bytes, the plan's own prediction
print(f"{report.moved_blocks} blocks, {report.moved_bytes:,} bytes moved")
print(f"runs in block tables: {plan.before.table_runs} -> {report.after.table_runs}")

(table,) = manager.get_block_ids("r1")
print(f"\nr1 reads its own bytes: {bool((storage.layers[0][table] == 1).all())}")
again = Request("again", list(range(5000, 5320)), 8)
hits, tokens = manager.get_computed_blocks(again)
same = np.unique(storage.layers[0][list(hits.blocks[0])]).tolist()
print(f"r5's prompt again: {tokens} of 320 tokens are still hit, its bytes are {same}")
manager.check()
