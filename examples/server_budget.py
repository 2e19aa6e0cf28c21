"""Where a device's memory goes before a server starts, and what a change would give."""

from dataclasses import replace

from kvatlas.budget import BudgetRequest, Parallel, budget, find_device, verdict
from kvatlas.units import format_bytes

request = BudgetRequest(
    model="llama-3.1-8b", device=find_device("h100"), lengths=(8192,), concurrency=64
)
found = budget(request)
print(f"{found.name}: {found.parameters:,} parameters on {request.device.title}")
for term in found.tightest.waterfall.terms:
    print(f"  {term.name:<22} {format_bytes(term.size_bytes):>11}  {term.basis}")
print(f"  {'KV cache':<22} {format_bytes(found.tightest.waterfall.kv_bytes):>11}")
print(f"{found.pool.num_blocks:,} blocks of {found.block_size} tokens")
print(verdict(found).line)

print("\n  KV dtype  ranks   blocks  requests of 8,192 tokens")
for kv_dtype in ("auto", "fp8"):
    for ranks in (1, 2, 4):
        tried = budget(replace(request, kv_dtype=kv_dtype, parallel=Parallel(tp=ranks)))
        room = tried.pool.requests(8192)
        print(f"  {kv_dtype:<8}  {ranks:>5}  {tried.pool.num_blocks:>7,}  {room:>5}")
