"""Who gets the memory: moving the budget to where the next bytes save the most time.

Owns: what each division would have saved, the choice, its log. Leaves to others: counting hits by
depth (`stack_meter`), resizing (`hybrid_allocator`).

Blocks that a request finds are worth `recompute_s` on the device and `recompute_s - restore_s` in
the host tier, which holds what comes next in one LRU stack: with D blocks on the device and H in
the host tier, depth d saves

    [0, D]: recompute_s        (D, D + H]: recompute_s - restore_s        beyond: nothing

An object that is found saves what making it again costs. Meters keep what each depth around the
present limits was asked for, ghosts beyond them too, so the value of every division one step away
is known without trying it; the best is taken if it gains enough. Hill climbing over shadow queues,
as Cidon et al. (Cliffhanger, NSDI 2016) divide a key-value cache between slabs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations

from kvatlas.errors import InputError

__all__ = ["Division", "Look", "Prices", "Space", "Tuning", "space", "thirds"]

PARTS = ("device_blocks", "host_blocks", "object_bytes")


@dataclass(frozen=True, slots=True)
class Prices:
    """What a byte takes of the budget in each part.

    1 everywhere is one memory that all share (host only, or unified memory); there the device is
    worth more per byte than the host tier at every size, and the tuning will find that. Where the
    memories differ, money is the common budget: a byte of HBM against one of DRAM.
    """

    device: float = 1.0
    host: float = 1.0
    objects: float = 1.0

    def __post_init__(self) -> None:
        for part in ("device", "host", "objects"):
            if not 0 < getattr(self, part) < float("inf"):
                raise InputError("must be above 0", field=part, value=getattr(self, part))


@dataclass(frozen=True, slots=True)
class Tuning:
    """The knobs of the loop.

    Attributes:
        interval: admissions from one look to the next.
        step_share: the share of the budget that moves at a time.
        least_gain: a move must raise the value of what was seen by this share of it.
        least_requests: hits on fewer admissions than this are no evidence; looks wait for them.
    """

    interval: int = 64
    step_share: float = 1 / 32
    least_gain: float = 0.01
    least_requests: int = 32

    def __post_init__(self) -> None:
        for name, low, high in (
            ("interval", 1, 1 << 40),
            ("step_share", 1e-6, 0.5),
            ("least_gain", 0, 1e6),
            ("least_requests", 1, 1 << 40),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"must be {low} to {high}", field=name, value=getattr(self, name))


@dataclass(frozen=True, slots=True)
class Division:
    """How much each part may use: blocks on the device and in the host tier, bytes of objects."""

    device_blocks: int
    host_blocks: int
    object_bytes: int


_LEAST = Division(1, 1, 0)


@dataclass(frozen=True, slots=True)
class Look:
    """One look of the loop.

    Attributes:
        admissions: so far, when it was.
        before, after: the division.
        value_s: seconds that the division saved since the counts began.
        best_s: seconds that the best division one step away would have saved.
        moved: such as "objects -> device", None when nothing did; why: a sentence.
        moved_blocks: blocks that were copied to empty whole pages for it.
    """

    admissions: int
    before: Division
    after: Division
    value_s: float
    best_s: float
    moved: str | None
    why: str
    moved_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Space:
    """Which divisions there are: everything within the budget and within `most`.

    Attributes:
        budget_bytes: bytes times their prices; block_bytes: of a block on the device and the host.
        step: what moves at a time, worth the same in every part, rounded down to whole units.
        most: the largest each part can become; least: the smallest.
    """

    budget_bytes: int
    block_bytes: int
    prices: Prices
    step: Division
    most: Division
    least: Division = _LEAST

    def price(self, division: Division) -> float:
        """Return what a division takes of the budget."""
        blocks = self.prices.device * division.device_blocks
        blocks += self.prices.host * division.host_blocks
        return blocks * self.block_bytes + self.prices.objects * division.object_bytes

    def holds(self, division: Division) -> bool:
        """Return whether a division is possible; a block stays on the device and the host."""
        return self.price(division) <= self.budget_bytes and all(
            getattr(self.least, part) <= getattr(division, part) <= getattr(self.most, part)
            for part in PARTS
        )

    def neighbours(self, now: Division) -> Iterator[tuple[str, Division]]:
        """Yield what moves, such as "objects -> device", and the division one step away."""
        for giver, taker in permutations(PARTS, 2):
            changed = replace(
                now,
                **{
                    giver: getattr(now, giver) - getattr(self.step, giver),
                    taker: getattr(now, taker) + getattr(self.step, taker),
                },
            )
            if self.holds(changed):
                yield f"{_shown(giver)} -> {_shown(taker)}", changed

    def block_marks(self, now: Division) -> tuple[int, ...]:
        """Return the depths at which a meter of blocks needs marks."""
        near = [now, *(division for _, division in self.neighbours(now))]
        marks = {each.device_blocks for each in near}
        return tuple(sorted(marks | {each.device_blocks + each.host_blocks for each in near}))

    def object_marks(self, now: Division) -> tuple[int, ...]:
        """Return the depths in bytes at which a meter of objects needs marks."""
        near = {now.object_bytes, *(each.object_bytes for _, each in self.neighbours(now))}
        return tuple(sorted(near - {0})) or (1,)

    def best(
        self, now: Division, values: Mapping[Division, float], least_gain: float
    ) -> tuple[Division, str | None, str]:
        """Return the division to take, what moves, and why, by the value of each in seconds."""
        here, best, move = values[now], now, None
        for text, division in self.neighbours(now):
            if values[division] > values[best]:
                best, move = division, text
        if move is None:
            return now, None, "no division one step away would have saved more"
        gain = values[best] - here
        text = f"{move} would have saved {gain:.3g} s on top of {here:.3g} s"
        if gain < least_gain * abs(values[best]):
            return now, None, f"{text}: less than is worth a move"
        return best, move, text


def space(
    budget_bytes: int,
    block_bytes: int,
    *,
    prices: Prices,
    most: Division,
    step_share: float,
    blocks_per_page: int = 1,
    least: Division = _LEAST,
) -> Space:
    """Return the space whose step is a share of the budget, whole device pages and host blocks."""
    unit = max(prices.device * blocks_per_page, prices.host) * block_bytes
    share = max(1, round(step_share * budget_bytes / unit)) * unit
    device = int(share / (prices.device * block_bytes))
    step = Division(
        device - device % blocks_per_page,
        int(share / (prices.host * block_bytes)),
        int(share / prices.objects),
    )
    return Space(budget_bytes, block_bytes, prices, step, most, least)


def thirds(whole: Space) -> Division:
    """Return a third of the budget for each part, or as much as it can become."""
    third, most, prices = whole.budget_bytes / 3, whole.most, whole.prices
    device = int(third / (prices.device * whole.block_bytes))
    host = int(third / (prices.host * whole.block_bytes))
    return Division(
        max(1, min(device, most.device_blocks)),
        max(1, min(host, most.host_blocks)),
        min(int(third / prices.objects), most.object_bytes),
    )


def _shown(part: str) -> str:
    return part.partition("_")[0].replace("object", "objects")
