"""Memory sizes on the curve: what HBM, host memory and disk buy together.

Owns: bytes to blocks, cumulative tiers, the ideal speed-up of prefill.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from kvatlas.errors import InputError
from kvatlas.measure.curves import MOST_BLOCKS, CapacityStudy
from kvatlas.report.curve_document import Mark
from kvatlas.units import format_bytes

__all__ = ["marks", "prefill_speedup"]


def marks(
    study: CapacityStudy,
    sizes_bytes: Mapping[str, int],
    bytes_per_block: int,
    prefill_share: float = 1.0,
) -> tuple[Mark, ...]:
    """Return a mark per tier, each with all tiers before it: hits anywhere count as hits.

    Args:
        study: the trace.
        sizes_bytes: bytes by tier, the fastest first, such as {"HBM": 40 << 30}.
        bytes_per_block: bytes that one block takes.
        prefill_share: the share of prefill's time that a hit saves, 0 to 1.

    Raises: InputError for sizes or shares that cannot be.
    """
    if bytes_per_block < 1:
        raise InputError("must be at least 1", field="bytes_per_block", value=bytes_per_block)
    names, memory = list(sizes_bytes), list(accumulate(sizes_bytes.values()))
    if not names:
        return ()
    if memory[-1] // bytes_per_block > MOST_BLOCKS:
        raise InputError(
            "more blocks than can be asked about",
            field="memory",
            value=format_bytes(memory[-1]),
            remedy="name smaller sizes",
        )
    table = study.table([size // bytes_per_block for size in memory])
    queried = max(1, table.queried_tokens)
    return tuple(
        Mark(
            name=" + ".join(names[: i + 1]),
            memory_bytes=memory[i],
            capacity_blocks=int(table.capacity_blocks[i]),
            lru=(rate := int(table.hit_tokens[i]) / queried),
            optimum=rate + int(table.policy_tokens[i]) / queried,
            prefill_speedup=prefill_speedup(rate, prefill_share),
        )
        for i in range(len(names))
    )


def prefill_speedup(token_hit_rate: float, prefill_share: float = 1.0) -> float:
    """Return the ideal speed-up of prefill, 1 / (1 - a h), by Amdahl's law.

    Raises: InputError unless 0 <= a <= 1 and 0 <= h < 1 or a < 1.
    """
    if not 0 <= prefill_share <= 1:
        raise InputError("must be 0 to 1", field="prefill_share", value=prefill_share)
    left = 1 - prefill_share * token_hit_rate
    if left <= 0:
        raise InputError("nothing is left to compute", field="prefill_share", value=prefill_share)
    return 1 / left
