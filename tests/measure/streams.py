"""Event streams for tests: real ones, from replays of small random workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from kvatlas.engine import DriveConfig, EngineConfig, Replay, SlidingWindowSpec
from kvatlas.engine.recorded import recording_header
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.events import Chunk, Header, resolved
from kvatlas.workload import Workload, chain_ids


class Stream:
    """A recorded replay, in memory.

    Attributes:
        header: the recording's.
        raw: its chunks, as the engine gave them.
        replay: the replay, done.
    """

    def __init__(self, header: Header, raw: tuple[Chunk, ...], replay: Replay) -> None:
        self.header, self.raw, self.replay = header, raw, replay

    def resolved(self) -> Iterator[Chunk]:
        """Yield the chunks with the ids of all blocks, fresh each time."""
        yield from resolved((chunk.copy() for chunk in self.raw), self.header)

    def __repr__(self) -> str:
        return f"Stream({len(self.rows())} events, {self.replay.config})"

    def rows(self) -> np.ndarray:
        """Return all rows, in order."""
        return np.concatenate([chunk.rows for chunk in self.raw])


def record(
    workload: Workload, config: EngineConfig, drive: DriveConfig | None = None, **slices: Any
) -> Stream:
    """Replay `workload` and keep its events."""
    chunks: list[Chunk] = []
    replay = Replay(workload, config, drive, on_events=lambda chunk: chunks.append(chunk.copy()))
    for _ in replay.slices(**slices):
        pass
    header = recording_header(
        replay,
        version="test",
        engine="vLLM",
        workload={"sessions": int(workload.session.max(initial=-1)) + 1},
    )
    for chunk in chunks:
        arrived = chunk.rows["event"] == 0
        whose: NDArray[np.int32] = chunk.rows["request"][arrived]
        chunk.rows["session"][arrived] = workload.session[whose]
    return Stream(header, tuple(chunks), replay)


def small_workload(seed: int, rows: int = 14, span: int = 4) -> Workload:
    """Draw prompts that share prefixes often, some of them whole, in a few sessions."""
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, 40, rows).astype(np.int32)
    counts = -(-prompts.astype(np.int64) // span)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    raw = rng.integers(0, 2, int(offsets[-1]))
    # Long shared beginnings: half of the requests repeat an earlier one's ids.
    for row in range(1, rows):
        if rng.random() < 0.5:
            other = int(rng.integers(0, row))
            shared = int(min(counts[row], counts[other]))
            raw[offsets[row] : offsets[row] + shared] = raw[
                offsets[other] : offsets[other] + shared
            ]
    ids, num_ids = chain_ids(raw.astype(np.int64), offsets, np.zeros(rows, np.int32))
    return Workload(
        name="small",
        source=f"by hand: {seed}",
        arrival_s=np.sort(rng.random(rows) * 0.4).round(3),
        prompt_tokens=prompts,
        output_tokens=rng.integers(1, 24, rows).astype(np.int32),
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        prefix_known=True,
        outputs_identified=False,
        session=rng.integers(0, 3, rows).astype(np.int32),
        parent=np.full(rows, -1, np.int32),
        priority=np.zeros(rows, np.int32),
        salt=np.zeros(rows, np.int32),
        notes=(),
    )


@st.composite
def streams(draw: st.DrawFn, *, hybrid: bool = False, timed: bool | None = None) -> Stream:
    """Draw a replay under pressure: small pools, small steps, with preemptions and evictions."""
    seed = draw(st.integers(0, 10_000))
    block_size = draw(st.sampled_from([2, 4]))
    groups = None
    if hybrid:
        groups = (
            FullAttentionSpec(block_size=block_size),
            SlidingWindowSpec(block_size=block_size, sliding_window=7),
        )
    config = EngineConfig(
        num_blocks=draw(st.integers(24, 120)) * (2 if hybrid else 1),
        block_size=block_size,
        kv_cache_groups=groups,
        max_num_seqs=draw(st.integers(1, 6)),
        max_num_batched_tokens=draw(st.integers(8, 64)),
        max_model_len=128,
        policy=draw(st.sampled_from(["fcfs", "priority"])),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        enable_prefix_caching=draw(st.integers(0, 4)) > 0,
        async_scheduling=draw(st.booleans()),
    )
    arrivals = draw(st.booleans()) if timed is None else timed
    drive = DriveConfig(arrivals="timed" if arrivals else "backlog", queue_depth=8)
    return record(
        small_workload(seed), config, drive, max_steps=draw(st.sampled_from([3, 17, 1 << 16]))
    )
