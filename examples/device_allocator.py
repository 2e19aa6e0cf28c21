"""An out-of-memory error, replayed: what was stuck, who pinned it, and what would have survived."""

import pickle
import tempfile
from pathlib import Path

from kvatlas.device import AllocatorSettings, DeviceTwin, Limits, read_snapshot

MIB = 1 << 20
SEGMENTS, BASE = 67, 1 << 33
CAPACITY = (SEGMENTS * 20 + 330) * MIB


def recorded() -> dict[str, object]:
    """A snapshot as torch.cuda.memory._snapshot() returns it: two blocks of 7 MiB to a segment.

    Requests of 1 to 10 MiB share segments of 20 MiB. The last 6 MiB of each serve nobody.
    """
    weights = [{"name": "load_weights", "filename": "model.py", "line": 12}]
    adapter = [{"name": "load_adapter", "filename": "model.py", "line": 80}]
    common = {"stream": 0, "time_us": 0}
    trace, segments = [], []
    for at in range(SEGMENTS):
        address = BASE + at * 20 * MIB
        frames = weights if at < 60 else adapter
        event = {**common, "frames": frames}
        trace.append({"action": "segment_alloc", "addr": address, "size": 20 * MIB, **event})
        blocks = []
        for start, size in ((0, 7), (7, 7), (14, 6)):
            used = start < 14
            if used:
                place = {"addr": address + start * MIB, "size": size * MIB}
                trace.append({"action": "alloc", **place, **event})
            blocks.append(
                {
                    "address": address + start * MIB,
                    "size": size * MIB,
                    "requested_size": size * MIB if used else 0,
                    "state": "active_allocated" if used else "inactive",
                    "frames": frames if used else [],
                }
            )
        segments.append(
            {
                "device": 0,
                "address": address,
                "total_size": 20 * MIB,
                "allocated_size": 14 * MIB,
                "active_size": 14 * MIB,
                "requested_size": 14 * MIB,
                "stream": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "is_expandable": False,
                "frames": frames,
                "blocks": blocks,
            }
        )
    failure = {"action": "oom", "device_free": 330 * MIB, "size": 384 * MIB, "frames": []}
    trace.append({**failure, **common})
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "snapshot.pickle"
    path.write_bytes(pickle.dumps(recorded()))
    snapshot = read_snapshot(path)

twin = DeviceTwin(snapshot)
replayed = twin.replay_recorded()
print(f"{replayed.addresses_equal} of {replayed.allocs} addresses as recorded", end=", ")
print("identical" if replayed.identical else "different")

found = twin.what_if(limits=Limits(capacity_bytes=CAPACITY))
assert found.refused_bytes is not None
print(f"{found.refused_bytes // MIB} MiB asked, {330} MiB free:", end=" ")
print("out of memory" if found.oom else "served")
print(f"stuck: {found.stuck_bytes // MIB} MiB, releasable: {found.releasable_bytes // MIB} MiB")
for one in twin.moment(len(twin.trace) - 1).pinning_stacks():
    name = snapshot.stacks.of(one.stack)[0].name
    print(f"  {name} pins {one.alone_bytes // MIB} MiB in {one.segments} segments")

for text in ("", "expandable_segments:True", "large_segment_size_mb:28"):
    settings = AllocatorSettings.parse(text)
    other = twin.what_if(settings, Limits(capacity_bytes=CAPACITY))
    outcome = "out of memory" if other.oom else "survives"
    smallest = twin.survival_capacity(settings) // MIB
    print(f"{text or 'defaults'}: {outcome}; survives from {smallest} MiB on")
print("\n".join(other.unverified))
