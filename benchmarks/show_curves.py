"""The tables of the curve: beside peers, and at scale."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.curves import BLOCK_SIZE, WHAT, AtScale, Curves
from benchmarks.policy_goal import Goal, Half
from benchmarks.show import titled


def curves_table(row: Curves) -> Table:
    """Return the whole curve and the optimum beside each peer's one capacity."""
    table = titled(
        f"{row.blocks:,} blocks of {BLOCK_SIZE}: every capacity at once beside one at a time",
        "who",
        "capacities",
        "median",
        "range, or why missing",
        f"hit rate at {row.capacity_blocks:,}",
        "curve faster",
        "peak, MiB",
    )
    curve = row.curve.median
    table.add_row(
        "kvatlas, LRU", "all", str(row.curve), row.curve.range, f"{row.lru_hit_rate:.3%}", "", ""
    )
    table.add_row(
        "kvatlas, optimum",
        "1",
        str(row.optimum),
        row.optimum.range,
        f"{row.optimum_hit_rate:.3%}",
        "",
        "",
    )
    for peer in row.peers:
        if peer.seconds is None or peer.hit_rate is None or peer.peak_mib is None:
            table.add_row(WHAT[peer.name], "1", "missing", str(peer.missing), "", "", "")
            continue
        table.add_row(
            WHAT[peer.name],
            "1",
            str(peer.seconds),
            peer.seconds.range,
            f"{peer.hit_rate:.3%}",
            f"{peer.seconds.median / curve:.0f} x",
            f"{peer.peak_mib:,.0f}",
        )
    return table


def at_scale_table(row: AtScale) -> Table:
    """Return what a large trace takes."""
    table = titled(f"The whole curve of {row.blocks:,} generated block accesses", "what", "")
    table.add_row("requests", f"{row.requests:,}")
    table.add_row("distinct blocks", f"{row.distinct_blocks:,}")
    table.add_row("generating them", f"{row.generate_s:.2f} s")
    table.add_row("the curve", f"{row.curve_s:.2f} s")
    table.add_row("both", f"{row.total_s:.2f} s")
    table.add_row("peak memory after generating", f"{row.generated_peak_mib:,.0f} MiB")
    table.add_row("peak memory at the end", f"{row.peak_mib:,.0f} MiB")
    return table


def goal_table(goals: Sequence[Goal]) -> Table:
    """Return how near each policy comes to the optimum, whole and on the second half."""
    table = titled(
        "Eviction policies between LRU and the optimum: block hit rate, 65 capacities and the knee",
        "workload",
        "policy",
        "knee",
        "LRU",
        "policy",
        "optimum",
        "gap closed",
        "worst",
        "mean",
        "2nd half: gap closed",
        "worst",
        "mean",
    )
    for each in goals:
        whole, held_out = each.whole, each.held_out
        table.add_row(
            f"{each.workload}, {each.block_size}",
            each.policy,
            f"{whole.knee_blocks:,}",
            f"{whole.lru:.2f}%",
            f"{whole.policy:.2f}%",
            f"{whole.optimum:.2f}%",
            _closed(whole),
            f"{whole.worst:+.2f}",
            f"{whole.mean:+.2f}",
            _closed(held_out),
            f"{held_out.worst:+.2f}",
            f"{held_out.mean:+.2f}",
        )
    return table


def _closed(half: Half) -> str:
    return "no gap" if half.gap_closed is None else f"{half.gap_closed:.1%}"
