"""kvatlas and the real vLLM on the same requests in the same run, decision for decision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import Seconds, process_seconds, repeat
from benchmarks.trace import Trace
from kvatlas.engine import EngineConfig, Replay

DECISIONS = (
    "requests",
    "finished",
    "steps",
    "scheduled_tokens",
    "preemptions",
    "prefix_queries",
    "prefix_hits",
)


@dataclass(frozen=True)
class SideBySide:
    """One pool size: the seconds of both and whether every count agrees."""

    num_blocks: int
    requests: int
    scheduled_tokens: int
    kvatlas: Seconds
    vllm: Seconds | None
    same_decisions: bool | None

    @property
    def tokens_per_s(self) -> float:
        """Scheduled tokens per second of kvatlas."""
        return self.scheduled_tokens / self.kvatlas.median

    @property
    def vllm_tokens_per_s(self) -> float | None:
        """Scheduled tokens per second of vLLM."""
        return None if self.vllm is None else self.scheduled_tokens / self.vllm.median

    @property
    def ratio(self) -> float | None:
        """How many times faster kvatlas decides the same."""
        return None if self.vllm is None else self.vllm.median / self.kvatlas.median


def side_by_side(
    trace: Trace, num_blocks: int, *, limit: int, repeats: int, vllm_python: Path | None
) -> SideBySide:
    """Replay the first `limit` requests with kvatlas, and with vLLM where there is one.

    kvatlas's clock covers the whole drive, vLLM's only the calls into vLLM.
    """
    workload = trace.workload.head(limit)
    config = EngineConfig(num_blocks=num_blocks)
    decisions = Replay(workload, config).run().decisions  # also loads the compiled kernels
    seconds = repeat(lambda: Replay(workload, config).run().engine_s, repeats)
    vllm, same = None, None
    if vllm_python is not None:
        recorded = _real(trace.path, config, limit, vllm_python)
        vllm = Seconds((float(recorded["seconds"]),))
        same = all(recorded[name] == decisions[name] for name in DECISIONS)
    return SideBySide(
        num_blocks=num_blocks,
        requests=workload.num_requests,
        scheduled_tokens=int(decisions["scheduled_tokens"]),
        kvatlas=seconds,
        vllm=vllm,
        same_decisions=same,
    )


def _real(trace: Path, config: EngineConfig, limit: int, vllm_python: Path) -> dict[str, float]:
    driver = Path(__file__).with_name("vllm_driver.py")
    _, output = process_seconds(
        [
            str(vllm_python),
            str(driver),
            str(trace),
            f"--num-blocks={config.num_blocks}",
            f"--limit={limit}",
            f"--block-size={config.block_size}",
            f"--max-num-seqs={config.max_num_seqs}",
            f"--max-num-batched-tokens={config.max_num_batched_tokens}",
            f"--max-model-len={config.max_model_len}",
        ]
    )
    recorded: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return recorded
