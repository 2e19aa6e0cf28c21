"""Memory of a process over time: resident bytes, pauses of the collector, devices or why none.

The monitor that runs inside a recorded vLLM works in any process. Here it looks on while 128 MiB
come and go; what depends on the machine is rounded or only named.
"""

import gc
import tempfile
from pathlib import Path

from kvatlas.events.live.memory import MemorySample, read_memory
from kvatlas.live.monitor import MemoryMonitor

MIB = 1 << 20


def make_cycles(count: int) -> None:
    """Leave lists behind that hold themselves: only the collector can free them."""
    for _ in range(count):
        knot: list[object] = []
        knot.append(knot)


def grown_mib(now: MemorySample, before: MemorySample) -> int:
    """Return how much more is resident, to the nearest 16 MiB."""
    assert now.rss_bytes is not None and before.rss_bytes is not None, now.process_reason
    return 16 * round((now.rss_bytes - before.rss_bytes) / (16 * MIB))


with tempfile.TemporaryDirectory() as folder:
    # A thread would sample every second; an hour of patience leaves its first and last sample.
    with MemoryMonitor(interval_s=3600, path=Path(folder) / "memory.jsonl"):
        taken = bytearray(b"x") * (128 * MIB)
        for _ in range(3):
            make_cycles(10_000)
            gc.collect()
    with MemoryMonitor(interval_s=3600, path=Path(folder) / "memory.jsonl"):
        del taken
    samples = read_memory(Path(folder))

held, freed = samples[1], samples[-1]
print(f"{len(samples)} samples")
print(f"given back at the end: {-grown_mib(freed, held)} MiB")
pauses = [sample.gc for sample in samples if sample.gc is not None]
longest_ms = max(pause.pause_ms_max for pause in pauses)
print(f"full collections: {sum(pause.gen[-1] for pause in pauses)}")
print(f"the longest took some time, less than a second: {0 < longest_ms < 1000}")
print(f"torch: {held.torch_reason or held.torch}")
print(f"NVML tells of devices or says why not: {bool(held.nvml or held.nvml_reason)}")
