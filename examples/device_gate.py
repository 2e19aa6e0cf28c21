"""A gate for CI: did a change make the server need more device memory, and which settings help?"""

import pickle
import tempfile
from pathlib import Path
from typing import Any

from kvatlas.device import AllocatorSettings, DeviceTwin, read_snapshot, survival_table
from kvatlas.device.conf import lint_text
from kvatlas.device.diff import Side, compare_sides, side_of
from kvatlas.device.gate import judge, parse_condition

MIB = 1 << 20
BASE = 1 << 33


def recorded(adapters: int) -> dict[str, Any]:
    """A snapshot: weights of 9 MiB, each in a segment of 20 MiB with an adapter of 6 beside it."""
    common = {"stream": 0, "time_us": 0}
    trace: list[dict[str, Any]] = []
    segments = []
    for at in range(adapters):
        address = BASE + at * 20 * MIB
        blocks, start = [], 0
        for name, size in (("load_weights", 9), ("load_adapter", 6)):
            frames = [{"name": name, "filename": "model.py", "line": 12}]
            place = {"addr": address + start * MIB, "size": size * MIB}
            if start == 0:
                event = {"action": "segment_alloc", "addr": address, "size": 20 * MIB}
                trace.append({**event, "frames": frames, **common})
            trace.append({"action": "alloc", **place, "frames": frames, **common})
            blocks.append(
                {
                    "address": address + start * MIB,
                    "size": size * MIB,
                    "requested_size": size * MIB,
                    "state": "active_allocated",
                    "frames": frames,
                }
            )
            start += size
        rest = {"address": address + start * MIB, "size": (20 - start) * MIB, "requested_size": 0}
        blocks.append({**rest, "state": "inactive", "frames": []})
        segments.append(
            {
                "device": 0,
                "address": address,
                "total_size": 20 * MIB,
                "allocated_size": start * MIB,
                "active_size": start * MIB,
                "requested_size": start * MIB,
                "stream": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "is_expandable": False,
                "frames": [],
                "blocks": blocks,
            }
        )
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


def twin_of(snapshot: dict[str, Any]) -> DeviceTwin:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.pickle"
        path.write_bytes(pickle.dumps(snapshot))
        return DeviceTwin(read_snapshot(path))


def side(twin: DeviceTwin) -> Side:
    return next(one for one in side_of(twin, [AllocatorSettings()]) if one is not None)


before, after = twin_of(recorded(adapters=40)), twin_of(recorded(adapters=44))
assert after.replay_recorded().identical

found = compare_sides(side(before), side(after))
for change in found.stacks:
    print(f"{change.label}: {change.before // MIB} -> {change.after // MIB} MiB")
for text in ("allocated>+12%", "survival>+2%", "stuck>+16MiB"):
    outcome = judge(parse_condition(text), found)
    figure = outcome.figure
    verdict = "FAILED" if outcome.met else "passed"
    print(f"{verdict} {text}: {figure.before // MIB} -> {figure.after // MIB} MiB")

print("least memory after the change:")
candidates = ("", "expandable_segments:True", "large_segment_size_mb:32")
for one in survival_table(after, candidates):
    print(f"  {one.capacity_bytes // MIB} MiB: {one.text or 'the defaults'}")

for text in ("expandable_segments:true", "expandable_segments:True,max_split_size_mb:64"):
    worst = lint_text(text).findings[0]
    print(f"{text}: {worst.level}: {worst.what}; {worst.remedy}")
