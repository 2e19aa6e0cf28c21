"""Replay a trace file through the twin of vLLM's scheduler and read what it decided.

    python examples/replay_trace.py [TRACE] [NUM_BLOCKS]

TRACE is any format that kvatlas reads (the content decides). Without it a small Mooncake-style
trace is written first.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from kvatlas.engine import EngineConfig, Replay
from kvatlas.workload import generate, load
from kvatlas.workload.export import export


def sample_trace(folder: str) -> Path:
    """Write 300 turns of chat to `folder`: arrival times, lengths, hash ids, no text."""
    path = Path(folder) / "chat.jsonl.gz"
    export(generate("conversation", seed=7, num_requests=300), path)
    return path


with tempfile.TemporaryDirectory() as folder:
    workload = load(sys.argv[1] if len(sys.argv) > 1 else sample_trace(folder))
num_blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 2_500
print(f"{workload.num_requests:,} requests, {workload.total_prompt_tokens:,} prompt tokens")

result = Replay(workload, EngineConfig(num_blocks=num_blocks)).run()
decisions = result.decisions  # the names of `kvatlas replay --json`
print(f"{decisions['steps']:,} steps, {decisions['scheduled_tokens']:,} tokens scheduled")
print(f"{decisions['prefix_hits']:,} prompt tokens from the cache ({decisions['hit_rate']:.1%})")
print(
    f"{decisions['preemptions']} preemptions, pool {decisions['mean_usage']:.0%} in use on average"
)

print(f"last request finished at {np.nanmax(result.finished_ms) / 1e3:.1f} s of simulated time")
