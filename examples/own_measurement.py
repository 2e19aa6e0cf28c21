"""A measurement of your own: cached content that was evicted before anybody hit it.

kvatlas's own analysers are classes with `feed` (a resolved chunk: every row about blocks has their
ids) and `figures`, and so is this one. It is plain Python and NumPy, for some hundred thousand
events; `kvatlas.measure` compiles such loops.
"""

import tempfile
from pathlib import Path

import numpy as np

import kvatlas
from kvatlas.engine import EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import Chunk, EventWriter, Header, open_recording, schema
from kvatlas.measure import Figures
from kvatlas.workload import generate


class NeverHit:
    """Counts evictions by how often the content had been hit."""

    def __init__(self, header: Header) -> None:
        self.hits = np.zeros(header.num_blocks, np.int64)  # since the block was allocated
        self.evictions_by_hits = np.zeros(4, np.int64)  # 0, 1, 2, 3 or more

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk."""
        wanted = (schema.ALLOCATED, schema.TOUCHED, schema.EVICTED)
        for row in chunk.rows[np.isin(chunk.rows["event"], wanted)]:
            blocks = chunk.ids[row["blocks_at"] :][: row["count"]]
            if row["event"] == schema.ALLOCATED:
                self.hits[blocks] = 0
            elif row["event"] == schema.TOUCHED:
                self.hits[blocks] += 1
            else:
                times = np.minimum(self.hits[blocks], 3)
                self.evictions_by_hits += np.bincount(times, minlength=4)

    def figures(self, sheet: Figures) -> None:
        """Put what was found under a name of its own."""
        never, evicted = self.evictions_by_hits[0], self.evictions_by_hits.sum()
        sheet.ratio("own.evicted_never_hit_share", never, evicted, "nothing was evicted")


workload = generate("conversation", seed=0, num_requests=300)
replay = Replay(workload, EngineConfig(num_blocks=2_000))
header = recording_header(replay, version=kvatlas.__version__, engine="vLLM 0.32")
with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "run.parquet")
    with EventWriter(path, header) as log:
        replay.listen(log.append)
        replay.run()
    measured = NeverHit(header)
    for chunk in open_recording(path).resolved():
        measured.feed(chunk)

sheet = Figures()
measured.figures(sheet)
print(f"{int(measured.evictions_by_hits.sum()):,} evictions of cached blocks")
for times, blocks in zip(
    ("never", "once", "twice", "more often"), measured.evictions_by_hits, strict=True
):
    print(f"{blocks:7,} had been hit {times}")
for name, value in sheet.values.items():
    print(f"{name} = {value:.3f}")
