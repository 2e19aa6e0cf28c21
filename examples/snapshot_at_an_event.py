"""Rebuild the pool as it was at one event of a recording, and see how its blocks lie.

The moment: a waiting request was refused although more blocks were free than at any other refusal.
"""

import tempfile
from pathlib import Path

import numpy as np

import kvatlas
from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import EventWriter, open_recording, schema, snapshot_at
from kvatlas.measure.fragmentation import BlockLayoutAnalyzer
from kvatlas.workload import generate

workload = generate("conversation", seed=3, num_requests=300)
config, drive = EngineConfig(num_blocks=900), DriveConfig(arrivals="timed")
replay = Replay(workload, config, drive)
header = recording_header(replay, version=kvatlas.__version__, engine="vLLM 0.32")

with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "run.arrows")  # a stream: readable up to any cut
    with EventWriter(path, header) as log:
        replay.listen(log.append)
        replay.run()
    recording = open_recording(path)

    first, number, most_free = 0, 0, -1  # event N is row N of the stream
    for rows, _ in recording.chunks():
        refused = rows["event"] == schema.ALLOCATION_FAILED
        refused &= rows["cause"] == schema.BY_ADMISSION
        free = np.where(refused, rows["free_blocks"], -1)
        if free.max() > most_free:
            number, most_free = first + int(free.argmax()), int(free.max())
            request, needed = (
                int(rows[name][free.argmax()]) for name in ("request", "blocks_needed")
            )
        first += len(rows)
    snapshot = snapshot_at(recording, event=number)

print(
    f"event {number}, step {snapshot.step}: request {request} needs {needed} blocks, "
    f"{most_free} are free"
)
layout = BlockLayoutAnalyzer(snapshot).layout()
print(f"used {layout.used}, evictable {layout.evictable}, empty {layout.empty}")
print(f"{layout.free.count} free runs, the longest of {layout.free.largest} blocks")

states = snapshot.states()  # of each block: empty, evictable or used
for first in range(0, snapshot.num_blocks, 75):
    print("".join(".=#"[state] for state in states[first : first + 75]))

tables = layout.tables
for at in np.argsort(-tables.blocks, kind="stable")[:3].tolist():
    print(
        f"request {tables.request[at]} holds {tables.blocks[at]} blocks in {tables.runs[at]} runs: "
        "as many descriptors to copy it"
    )
