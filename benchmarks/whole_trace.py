"""The whole trace, alone: the engine's own time, and a whole process from start to exit."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import Seconds, kvatlas_command, process_seconds, repeat
from benchmarks.trace import Trace
from kvatlas.engine import EngineConfig, Replay


@dataclass(frozen=True)
class WholeTrace:
    """One pool size: what happened and how long the engine took."""

    num_blocks: int
    steps: int
    scheduled_tokens: int
    allocated_blocks: int
    engine: Seconds

    @property
    def tokens_per_s(self) -> float:
        """Scheduled tokens per second."""
        return self.scheduled_tokens / self.engine.median

    @property
    def blocks_per_s(self) -> float:
        """Blocks taken from the free queue per second."""
        return self.allocated_blocks / self.engine.median


@dataclass(frozen=True)
class EndToEnd:
    """`kvatlas replay` as a process, one request at a time: start to exit.

    Attributes:
        stages: what the last run's own report says, in seconds by stage.
    """

    num_blocks: int
    process: Seconds
    stages: dict[str, float]
    hit_tokens: int
    expected_hit_tokens: int | None


def whole_trace(trace: Trace, num_blocks: int, *, repeats: int) -> WholeTrace:
    """Replay every request `repeats` times in this process."""
    config = EngineConfig(num_blocks=num_blocks)
    first = Replay(trace.workload, config).run()
    return WholeTrace(
        num_blocks=num_blocks,
        steps=int(first.decisions["steps"]),
        scheduled_tokens=int(first.decisions["scheduled_tokens"]),
        allocated_blocks=int(first.sums["allocations"]),
        engine=repeat(lambda: Replay(trace.workload, config).run().engine_s, repeats),
    )


def end_to_end(
    trace: Trace, *, num_blocks: int, repeats: int, expected_hit_tokens: int | None
) -> EndToEnd:
    """Run `kvatlas replay TRACE --blocks N --max-num-seqs 1` as a user does, kernels on disk."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "replay.json"
        command = kvatlas_command(
            "replay",
            str(trace.path),
            f"--blocks={num_blocks}",
            "--max-num-seqs=1",
            f"--json={out}",
        )
        process_seconds(command)
        seconds = repeat(lambda: process_seconds(command)[0], repeats)
        document = json.loads(out.read_text(encoding="utf-8"))
    stages = {
        name: value
        for name, value in document["timing"].items()
        if name.endswith("_s") and "_per_" not in name
    }
    hit_tokens = int(document["decisions"]["prefix_hits"])
    return EndToEnd(num_blocks, seconds, stages, hit_tokens, expected_hit_tokens)
