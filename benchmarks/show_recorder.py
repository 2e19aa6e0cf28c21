"""The tables of the part `recorder`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.recorder import RecorderCost
from benchmarks.show import titled

__all__ = ["calls_table", "pool_table"]


def calls_table(costs: Sequence[RecorderCost]) -> Table:
    """Return what recording adds to vLLM's calls."""
    first = costs[0]
    table = titled(
        f"Recording the real vLLM scheduler, {first.requests:,} requests: three in lockstep",
        "blocks",
        "call",
        "laps (left out)",
        "alone, median",
        "recorded, median",
        "recorded in full",
        "1% of the steps",
    )
    for cost in costs:
        for call in cost.calls:
            table.add_row(
                f"{cost.num_blocks:,}",
                call.call,
                f"{call.laps:,} ({call.left_out:,})",
                f"{call.plain_median_s * 1e6:,.0f} us",
                f"{call.full_median_s * 1e6:,.0f} us",
                f"{call.full_share:+.1%}",
                f"{call.sampled_share:+.1%}",
            )
    return table


def pool_table(cost: RecorderCost) -> Table:
    """Return what recording adds to one call of the pool."""
    table = titled(
        "One recorded call of the block pool, longer than alone by",
        "blocks",
        "get_new_blocks",
        "free_blocks",
    )
    for row in cost.pool_calls:
        table.add_row(
            f"{row.blocks:,}",
            f"{row.get_new_blocks_s * 1e9:,.0f} ns",
            f"{row.free_blocks_s * 1e9:,.0f} ns",
        )
    table.add_row("a checkpoint of the whole pool", f"{cost.checkpoint_s * 1e3:.1f} ms", "")
    return table
