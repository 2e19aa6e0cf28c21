"""How much to leave free for the allocator: the published buffer beside the measured one."""

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

from kvatlas.budget import BudgetRequest, budget, find_device, read_load
from kvatlas.units import format_bytes

MIB = 1 << 20
SMALL, FIRST, SECOND = 0x700000000, 0x740000000, 0x7C0000000


def recorded() -> dict[str, object]:
    """A snapshot as torch.cuda.memory._snapshot() returns it.

    Two blocks of 7 MiB share a segment of 20. Then a step takes 1,024 MiB and gives them back; the
    next one takes 1,536, which that segment cannot hold.
    """
    trace = []
    for action, address, mib in (
        ("segment_alloc", SMALL, 20),
        ("alloc", SMALL, 7),
        ("alloc", SMALL + 7 * MIB, 7),
        ("segment_alloc", FIRST, 1024),
        ("alloc", FIRST, 1024),
        ("free_requested", FIRST, 1024),
        ("free_completed", FIRST, 1024),
        ("segment_alloc", SECOND, 1536),
        ("alloc", SECOND, 1536),
    ):
        event = {"action": action, "addr": address, "size": mib * MIB}
        trace.append({**event, "stream": 0, "time_us": 0, "frames": []})
    segments = []
    for start, blocks in (
        (SMALL, ((7, True), (7, True), (6, False))),
        (FIRST, ((1024, False),)),
        (SECOND, ((1536, True),)),
    ):
        listed, address = [], start
        for mib, used in blocks:
            state = "active_allocated" if used else "inactive"
            asked = mib * MIB if used else 0
            block = {"address": address, "size": mib * MIB, "requested_size": asked}
            listed.append({**block, "state": state, "frames": []})
            address += mib * MIB
        held = sum(mib * MIB for mib, used in blocks if used)
        segments.append(
            {
                "device": 0,
                "address": start,
                "total_size": address - start,
                "allocated_size": held,
                "active_size": held,
                "requested_size": held,
                "stream": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "is_expandable": False,
                "frames": [],
                "blocks": listed,
            }
        )
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "snapshot.pickle"
    path.write_bytes(pickle.dumps(recorded()))
    load = read_load(path)

print("replayed:", "identical" if load.identical else "different")
print("reserved at most: ", format_bytes(load.peak_reserved_bytes))
print("allocated at most:", format_bytes(load.peak_allocated_bytes))
assert load.survival_bytes is not None
print("survives from:    ", format_bytes(load.survival_bytes))

found = load.buffers()
assert found.published_bytes is not None and found.own_bytes is not None
print(f"\npublished buffer: {format_bytes(found.published_bytes)} ({found.published_how})")
print(f"measured buffer:  {format_bytes(found.own_bytes)} ({found.own_how})")

request = BudgetRequest(model="llama-3.1-8b", device=find_device("l40s"))
for name, buffers in (("published", replace(found, own_bytes=None)), ("measured", found)):
    planned = budget(replace(request, buffers=buffers))
    print(f"KV cache with the {name} one: {planned.blocks_after_buffer:,} blocks")
print("\n".join(load.unverified))
