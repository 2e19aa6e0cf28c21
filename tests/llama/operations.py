"""What may happen to blocks between two steps: none of it may change a token.

Owns: one function per operation, each of which checks the bytes it leaves behind. Leaves to others:
when they happen (`schedules`).
"""

from __future__ import annotations

import torch
from schedules import Schedule


def spoil(schedule: Schedule) -> None:
    """Fill what nobody may read with NaN: a stale read then answers NaN."""
    blocks = schedule.meaningless_blocks()
    for layer in schedule.storage.layers:
        layer[blocks] = torch.nan
    schedule.counts["spoiled"] += len(blocks)


EVERY = (spoil,)
