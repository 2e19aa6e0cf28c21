"""The cases that are recorded from the real nano-vLLM, and how a workload is built by hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.nano import NanoConfig
from kvatlas.engine.replay import DriveConfig
from kvatlas.workload import Workload, chain_ids


@dataclass(frozen=True)
class Case:
    """One recorded run: the engine's settings, the drive, and what the workload is like."""

    name: str
    num_blocks: int
    block_size: int = 256
    max_num_seqs: int = 512
    max_num_batched_tokens: int = 16384
    arrivals: Literal["backlog", "timed"] = "backlog"
    queue_depth: int = 256
    tokens_per_id: int = 512
    outputs_identified: bool = False
    requests: int = 60
    longest_prompt: int = 4000
    longest_output: int = 400
    gap_s: float = 0.05
    seed: int = 0

    def config(self, version: str) -> NanoConfig:
        """Return the twin's settings."""
        return NanoConfig(
            num_blocks=self.num_blocks,
            block_size=self.block_size,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            version=version,
        )

    def drive(self) -> DriveConfig:
        """Return how requests come."""
        return DriveConfig(arrivals=self.arrivals, queue_depth=self.queue_depth)

    def workload(self) -> Workload:
        """Return requests of a few shared openings that then go different ways."""
        rng = np.random.default_rng(self.seed)
        rows = []
        for _ in range(self.requests):
            raw = rng.integers(0, 2, 6).tolist() + rng.integers(0, 1000, 2).tolist()
            prompt = int(rng.integers(1, self.longest_prompt))
            output = int(rng.integers(1, self.longest_output))
            rows.append((raw, prompt, output, float(np.round(rng.exponential(self.gap_s), 3))))
        return by_hand(rows, self.tokens_per_id, outputs_identified=self.outputs_identified)


CASES = (
    Case("default sizes", num_blocks=60),
    Case("roomy", num_blocks=900, seed=1),
    Case("chunked prompts", num_blocks=40, max_num_batched_tokens=700, seed=2, requests=40),
    Case("timed", num_blocks=48, arrivals="timed", seed=3),
    Case("few at a time", num_blocks=64, max_num_seqs=3, queue_depth=5, seed=4, requests=40),
    Case(
        "outputs known", num_blocks=30, outputs_identified=True, tokens_per_id=64, block_size=128,
        longest_prompt=900, longest_output=500, seed=5,
    ),
    Case(
        "small blocks, much preemption", num_blocks=40, block_size=4, tokens_per_id=8,
        longest_prompt=60, longest_output=90, max_num_batched_tokens=128, seed=6, requests=80,
    ),
    Case(
        "small blocks, timed", num_blocks=60, block_size=6, tokens_per_id=3, longest_prompt=70,
        longest_output=60, max_num_batched_tokens=64, max_num_seqs=7, arrivals="timed", seed=7,
        requests=80, gap_s=0.02,
    ),
)  # fmt: skip


def digest(words: Any) -> str:
    """Return four hex digits that stand for the words of one step."""
    return hashlib.sha256(np.asarray(words).astype("<u4").tobytes()).hexdigest()[:4]


def by_hand(
    rows: list[tuple[list[int], int, int, float]], span: int, *, outputs_identified: bool = False
) -> Workload:
    """Build a workload of (raw ids, prompt tokens, output tokens, gap in seconds) rows.

    A row's raw ids are repeated as often as its tokens need.
    """
    prompt = np.array([row[1] for row in rows], np.int32)
    output = np.array([row[2] for row in rows], np.int32)
    covered = prompt.astype(np.int64) + (output if outputs_identified else 0)
    counts = -(-covered // span)
    flat: list[int] = []
    for row, count in zip(rows, counts.tolist(), strict=True):
        flat += (row[0] * (count // len(row[0]) + 1))[:count]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ids, num_ids = chain_ids(np.array(flat, np.int64), offsets, np.zeros(len(rows), np.int64))
    arrival_s = np.cumsum([row[3] for row in rows])
    return from_columns(span, outputs_identified, arrival_s, prompt, output, ids, offsets, num_ids)


def from_columns(
    tokens_per_id: int,
    outputs_identified: bool,
    arrival_s: Any,
    prompt_tokens: Any,
    output_tokens: Any,
    ids: Any,
    id_offsets: Any,
    num_ids: int | None = None,
) -> Workload:
    """Build a workload of its columns, checked."""
    num_rows = len(prompt_tokens)
    unknown: NDArray[np.int32] = np.full(num_rows, -1, np.int32)
    zero: NDArray[np.int32] = np.zeros(num_rows, np.int32)
    workload = Workload(
        name="by hand",
        source="generated",
        arrival_s=np.asarray(arrival_s, np.float64),
        prompt_tokens=np.asarray(prompt_tokens, np.int32),
        output_tokens=np.asarray(output_tokens, np.int32),
        tokens_per_id=tokens_per_id,
        ids=np.asarray(ids, np.int64),
        id_offsets=np.asarray(id_offsets, np.int64),
        num_ids=int(np.max(ids, initial=-1)) + 1 if num_ids is None else num_ids,
        prefix_known=True,
        outputs_identified=outputs_identified,
        session=unknown,
        parent=unknown,
        priority=zero,
        salt=zero,
    )
    workload.check()
    return workload
