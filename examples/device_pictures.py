"""A memory snapshot as pictures: a page with any moment of it, and flame graphs of one moment."""

import json
import pickle
import tempfile
from pathlib import Path

from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.report import DeviceReporter

MIB = 1 << 20
SEGMENTS, BASE = 6, 1 << 33


def recorded() -> dict[str, object]:
    """A snapshot as torch.cuda.memory._snapshot() returns it.

    Six segments of 20 MiB hold 15 MiB of activations and 4 MiB of a cache each; then the
    activations are freed, and the cache keeps all six. (The last MiB is too little to split off.)
    """
    main = {"name": "main", "filename": "server.py", "line": 9}
    stacks = {
        "activations": [{"name": "forward", "filename": "model.py", "line": 30}, main],
        "cache": [{"name": "remember", "filename": "cache.py", "line": 7}, main],
    }
    trace: list[dict[str, object]] = []
    segments = []

    def event(action: str, address: int, size: int, owner: str) -> None:
        time_us = 1000 * len(trace)
        trace.append({"action": action, "addr": address, "size": size, "stream": 0,
                      "time_us": time_us, "frames": stacks[owner]})  # fmt: skip

    for at in range(SEGMENTS):
        address = BASE + at * 20 * MIB
        event("segment_alloc", address, 20 * MIB, "activations")
        event("alloc", address, 9 * MIB, "activations")
        event("alloc", address + 9 * MIB, 6 * MIB, "activations")
        event("alloc", address + 15 * MIB, 4 * MIB, "cache")
        blocks = [
            {"address": address, "size": 15 * MIB, "requested_size": 0, "state": "inactive",
             "frames": []},
            {"address": address + 15 * MIB, "size": 5 * MIB, "requested_size": 4 * MIB,
             "state": "active_allocated", "frames": stacks["cache"]},
        ]  # fmt: skip
        segments.append(
            {"device": 0, "address": address, "total_size": 20 * MIB, "stream": 0,
             "allocated_size": 5 * MIB, "active_size": 5 * MIB, "requested_size": 4 * MIB,
             "segment_type": "large", "segment_pool_id": (0, 0), "is_expandable": False,
             "frames": [], "blocks": blocks}
        )  # fmt: skip
    for at in range(SEGMENTS):
        for start, size in ((0, 9), (9, 6)):
            for action in ("free_requested", "free_completed"):
                event(action, BASE + (at * 20 + start) * MIB, size * MIB, "activations")
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "snapshot.pickle"
    path.write_bytes(pickle.dumps(recorded()))
    twin = DeviceTwin(read_snapshot(path))

reporter = DeviceReporter(twin, "snapshot.pickle")
found = reporter.document.found
print("replayed", "as recorded" if found.recorded.identical else "otherwise")
for peak in found.peaks:
    print(f"most {peak.name}: {peak.nbytes // MIB} MiB, after event {peak.event}")
for one in found.pinners:
    pins = one.pins
    print(f"{one.calls[0].name} pins {pins.alone_bytes // MIB} MiB in {pins.segments} segments")

page = reporter.html()  # write it to a file and open that
print(f"the page: {len(page) // 1000 < 200 and 'less than 200 kB'}, loads", end=" ")
print("nothing" if b"src=" not in page else "something")
print("held:", reporter.collapsed().decode(), end="")
print("stuck:", reporter.collapsed(stuck=True).decode(), end="")
profiles = json.loads(reporter.speedscope())["profiles"]
print("speedscope:", ", ".join(f"{one['name']} {one['endValue'] // MIB} MiB" for one in profiles))
