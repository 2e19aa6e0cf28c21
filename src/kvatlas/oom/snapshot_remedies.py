"""What to change after a recorded failure: the setting that passes, or what the KV cache gives up.

Owns: their order and wording. Leaves to others: the runs (`settings_table`), the failure itself
(`scene_verdict`).
"""

from __future__ import annotations

from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message_remedies import POOLS_REMEDY, SMALLER_REQUEST, give_up
from kvatlas.oom.settings_table import SettingOutcome, choose, clearly_better, conf_text
from kvatlas.oom.verdict import Cause, Remedy
from kvatlas.units import format_bytes

__all__ = ["choose_setting", "snapshot_remedies"]


def choose_setting(
    rows: tuple[SettingOutcome, ...], order: tuple[str, ...]
) -> SettingOutcome | None:
    """Return the setting to recommend at a failure, None where none is.

    Where the recorded settings pass as well once segments are fresh, only one that needs clearly
    less is worth a change.
    """
    passing = tuple(row for row in rows if row.survives)
    if any(row.recorded for row in passing):
        return clearly_better(passing, order)
    return choose(passing, order)


def snapshot_remedies(
    rows: tuple[SettingOutcome, ...],
    chosen: SettingOutcome | None,
    *,
    capacity_bytes: int,
    own_bytes: int,
    total_bytes: int | None,
    cause: Cause,
    short_bytes: int,
    active_bytes: int,
    order: tuple[str, ...],
    block: KvBlock | None,
    startup: StartupLog | None,
) -> tuple[Remedy, ...]:
    """Return what to change, the best first.

    Args:
        chosen: what `choose_setting` said.
        capacity_bytes: the memory that there was; own_bytes: what the recorded settings need, as
            memory lay; total_bytes: the device's, None: not known.
        cause: of the failure; short_bytes: what was asked for beyond what was free; active_bytes:
            in live blocks, which is the most that giving up the KV cache can free.
        order: settings, what changes least first. startup: what the server said when it started.
    """
    found = []
    if cause == "memory-fraction":
        found.append(
            Remedy(
                text="Raise or drop the process's own limit: the device had room.",
                setting="torch.cuda.set_per_process_memory_fraction",
                basis="advice",
            )
        )
    if chosen is not None:
        found.append(
            Remedy(
                text="The same requests pass in the same memory: they need "
                f"{format_bytes(chosen.needs_bytes)} of {format_bytes(capacity_bytes)}, "
                f"{_spare(chosen.spare_bytes, block)} to spare; {_more(chosen, block)}. It costs "
                "no KV block.",
                setting=conf_text(chosen, rows),
                basis="replayed",
            )
        )
    own = next((row for row in rows if row.recorded), None)
    if own is not None and own.survives and chosen is None:
        found.append(
            Remedy(
                text="Begin with fresh segments: restart, or call torch.cuda.empty_cache() before "
                "this load. With the same blocks in fresh segments the recorded settings pass, "
                "too: the failure comes from how memory lay when the trace began.",
                basis="replayed",
            )
        )
    if cause == "private-pools":
        found.append(POOLS_REMEDY)
    if cause == "other-processes":
        found.append(Remedy(text=f"Free {format_bytes(short_bytes)} that other processes hold."))
    best = clearly_better(rows, order)
    if chosen is None and own_bytes - capacity_bytes > active_bytes:
        return (*found, SMALLER_REQUEST)
    if chosen is None and best is not None and best.spare_bytes < 0:
        found.append(
            give_up(
                -best.spare_bytes,
                block,
                startup,
                total_bytes,
                why=f"No setting passes in {format_bytes(capacity_bytes)}; this one needs "
                f"{format_bytes(best.needs_bytes)}",
                setting=conf_text(best, rows),
            )
        )
    if own_bytes > capacity_bytes:
        found.append(
            give_up(
                own_bytes - capacity_bytes,
                block,
                startup,
                total_bytes,
                why=f"Under the settings as they are, {format_bytes(own_bytes)} are needed",
            )
        )
    return tuple(found)


def _more(chosen: SettingOutcome, block: KvBlock | None) -> str:
    """Return what a setting needs beyond what PyTorch held at the failure."""
    if not chosen.more_bytes:
        return "no more than PyTorch held at the failure"
    blocks = "" if block is None else f" ({block.blocks(chosen.more_bytes):,} KV blocks)"
    return f"{format_bytes(chosen.more_bytes)}{blocks} more than PyTorch held at the failure"


def _spare(size: int, block: KvBlock | None) -> str:
    text = format_bytes(size)
    if block is None or size < block.size_bytes:
        return text
    return f"{text} ({size // block.size_bytes:,} KV blocks)"
