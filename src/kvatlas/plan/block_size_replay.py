"""Block sizes measured: the same workload and memory replayed with each.

Owns: the replays and what is compared. Leaves to others: predicting without a replay
(`block_size`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.errors import InputError
from kvatlas.workload import Workload

__all__ = ["MeasuredBlockSize", "measure_block_sizes"]


@dataclass(frozen=True, slots=True)
class MeasuredBlockSize:
    """One block size in a replay.

    Attributes:
        block_size, num_blocks: of the pool, the same memory for all, to a block.
        waste: `waste.internal_time_weighted`; None when nothing ran.
        token_hit_rate: `prefix.token_hit_rate`; preemptions; simulated_s: until all was served.
    """

    block_size: int
    num_blocks: int
    waste: float | None
    token_hit_rate: float
    preemptions: int
    simulated_s: float


def measure_block_sizes(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig | None = None,
    *,
    candidates: Sequence[int],
) -> tuple[MeasuredBlockSize, ...]:
    """Replay `workload` with each block size on the memory of `config`; a replay each.

    Raises: InputError: several KV cache groups, or a pool of less than two blocks of a candidate.
    """
    if config.kv_cache_groups is not None:
        raise InputError("groups have block sizes of their own", field="kv_cache_groups")
    slots, rows = config.num_blocks * config.block_size, []
    for block_size in candidates:
        changed = replace(config, block_size=block_size, num_blocks=slots // block_size)
        run = Replay(workload, changed, drive or DriveConfig()).run()
        held = run.sums["used_block_ms"] * block_size
        rows.append(
            MeasuredBlockSize(
                block_size=block_size,
                num_blocks=changed.num_blocks,
                waste=float(run.sums["wasted_slot_ms"] / held) if held else None,
                token_hit_rate=float(run.decisions["hit_rate"]),
                preemptions=int(run.decisions["preemptions"]),
                simulated_s=float(run.sums["clock_ms"]) / 1e3,
            )
        )
    return tuple(rows)
