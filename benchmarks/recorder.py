"""What recording costs a server: the real vLLM Scheduler with and without it, in lockstep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import process_seconds
from benchmarks.trace import Trace

CALLS = ("schedule", "update_from_output", "add_request")


@dataclass(frozen=True)
class CallCost:
    """A call of vLLM's scheduler alone, recorded in full, and in windows of 1% of the steps."""

    call: str
    laps: int
    left_out: int
    plain_s: float
    full_s: float
    sampled_s: float
    plain_median_s: float
    full_median_s: float

    @property
    def full_share(self) -> float:
        """What recording in full adds, as a share of the time alone."""
        return self.full_s / self.plain_s - 1

    @property
    def sampled_share(self) -> float:
        """What recording 1% of the steps adds."""
        return self.sampled_s / self.plain_s - 1


@dataclass(frozen=True)
class PoolCall:
    """What a recorded call of the block pool takes longer, by how many blocks it is about."""

    blocks: int
    get_new_blocks_s: float
    free_blocks_s: float


@dataclass(frozen=True)
class RecorderCost:
    """One pool size."""

    num_blocks: int
    requests: int
    steps: int
    same_decisions: bool
    faults: int
    written_bytes: int
    checkpoint_s: float
    calls: tuple[CallCost, ...]
    pool_calls: tuple[PoolCall, ...]


def recorder_cost(trace: Trace, num_blocks: int, *, limit: int, vllm_python: Path) -> RecorderCost:
    """Measure recording on the first `limit` requests of the trace."""
    root = Path(__file__).parent.parent
    _, output = process_seconds(
        [
            "env",
            f"PYTHONPATH={root / 'src'}:{root}",
            str(vllm_python),
            "-m",
            "benchmarks.recorder_driver",
            str(trace.path),
            f"--num-blocks={num_blocks}",
            f"--limit={limit}",
        ]
    )
    said = json.loads(output.strip().splitlines()[-1])
    return RecorderCost(
        num_blocks=num_blocks,
        requests=limit,
        steps=said["steps"],
        same_decisions=said["same_decisions"],
        faults=said["faults"],
        written_bytes=said["written_bytes"],
        checkpoint_s=said["checkpoint_s"],
        calls=tuple(
            CallCost(
                call=call,
                laps=of["laps"],
                left_out=of["left_out"],
                plain_s=of["seconds"]["plain"],
                full_s=of["seconds"]["full"],
                sampled_s=of["seconds"]["sampled"],
                plain_median_s=of["median_s"]["plain"],
                full_median_s=of["median_s"]["full"],
            )
            for call, of in ((call, said["in_vllm"][call]) for call in CALLS)
        ),
        pool_calls=tuple(PoolCall(**row) for row in said["calls"]),
    )
