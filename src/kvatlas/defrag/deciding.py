"""Whether moving blocks pays: what it saves, in seconds, against the copies that it takes.

Owns: `Costs`, `Decision`, and the arithmetic with its sentence. Leaves to others: plans, measuring
bandwidth.

In a pool of equal blocks fragmentation costs nothing by itself: any free block serves as well as
any other. Moving pays where somebody needs neighbours: a transfer that takes a descriptor per run
of a block table, pages that are given back whole, a put that needs consecutive blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvatlas.defrag.condition import Condition
from kvatlas.errors import InputError
from kvatlas.units import format_bytes

__all__ = ["Costs", "Decision", "Prospect", "should_defragment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What things cost on your machine. What nobody needs is 0, which is the default.

    Attributes:
        copy_bandwidth: bytes per second of moves inside the pool (`Report.bandwidth` measures it).
        fixed_s: seconds of a run whatever it moves: planning, books, a pause of the engine.
        transfers: how often each block table that is held now will be transferred whole.
        descriptor_s: seconds that one more descriptor costs such a transfer.
        blocks_per_page: blocks behind a page that could be given back.
        page_s: seconds that one free page more is worth.
        put_blocks: consecutive free blocks that somebody waits for.
        put_s: seconds that it costs not to find them (to recompute, to wait, to evict).
    """

    copy_bandwidth: float
    fixed_s: float = 0.0
    transfers: float = 0.0
    descriptor_s: float = 0.0
    blocks_per_page: int = 0
    page_s: float = 0.0
    put_blocks: int = 0
    put_s: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError("must be a number, 0 or more", field=name, value=value)
        if self.copy_bandwidth == 0:
            raise InputError(
                "copies take no time at no bandwidth", field="copy_bandwidth", value=0,
                remedy="give bytes per second",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """What moving would change: the pool before and after, and what is copied for it."""

    before: Condition
    after: Condition
    moved_blocks: int
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to do it.

    Attributes:
        worth: it saves more than it costs.
        saving_s, cost_s: both sides, seconds.
        why: the sentence.
    """

    worth: bool
    saving_s: float
    cost_s: float
    why: str


def should_defragment(prospect: Prospect, costs: Costs, *, took_s: float | None = None) -> Decision:
    """Weigh what moving saves against what it costs; O(N) for pages, else O(1).

    A saving may be negative: blocks moved for one purpose can break the runs of other tables.

    Args:
        prospect: before, after, and what is copied.
        costs: what things cost.
        took_s: what it really took, once it is done; the estimate by default.
    """
    before, after = prospect.before, prospect.after
    saving_s, gains = 0.0, []
    fewer = before.table_runs - after.table_runs
    per_run_s = costs.transfers * costs.descriptor_s
    if per_run_s > 0:
        saving_s += fewer * per_run_s
        gains.append(
            f"{costs.transfers:g} transfers with {_change(fewer, 'descriptor')} save "
            f"{_seconds(fewer * per_run_s)}"
        )
    if costs.page_s > 0 and costs.blocks_per_page > 0:
        pages = after.free_pages(costs.blocks_per_page) - before.free_pages(costs.blocks_per_page)
        saving_s += pages * costs.page_s
        gains.append(f"{pages:+,} free pages are worth {_seconds(pages * costs.page_s)}")
    if costs.put_s > 0 and costs.put_blocks > 0:
        worth, text = _put(before.largest_free_run, after.largest_free_run, costs)
        saving_s += worth
        gains.append(text)
    estimated_s = costs.fixed_s + prospect.moved_bytes / costs.copy_bandwidth
    cost_s = estimated_s if took_s is None else took_s
    worth_it = saving_s > cost_s
    price = f"{prospect.moved_blocks:,} copies ({format_bytes(prospect.moved_bytes)}) "
    price += f"{'take' if took_s is None else 'took'} {_seconds(cost_s)}"
    if not gains:
        why = (
            "no transfer, page or put needs neighbours, and in a pool of equal blocks any free "
            f"block serves; {price} for nothing"
        )
    else:
        why = f"{', '.join(gains)}; {price}"
    return Decision(worth_it, saving_s, cost_s, f"{'Yes' if worth_it else 'No'}: {why}.")


def _put(before: int, after: int, costs: Costs) -> tuple[float, str]:
    """Return what the longest run is worth to a put that waits, and the words."""
    needed = f"a run of {costs.put_blocks:,} blocks"
    if before >= costs.put_blocks:
        if after >= costs.put_blocks:
            return 0.0, f"{needed} is there already"
        return -costs.put_s, f"{needed} would be broken"
    if after >= costs.put_blocks:
        return costs.put_s, f"{needed} saves {_seconds(costs.put_s)}"
    return 0.0, f"{needed} is not there even then"


def _change(fewer: int, noun: str) -> str:
    number = abs(fewer)
    return f"{number:,} {noun}{'' if number == 1 else 's'} {'fewer' if fewer >= 0 else 'more'} each"


def _seconds(seconds: float) -> str:
    """Return seconds with three digits, in a unit that suits."""
    size = abs(seconds)
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if size >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns" if size else "0 s"
