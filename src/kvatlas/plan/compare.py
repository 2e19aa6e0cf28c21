"""Two sheets of figures side by side: did the change help, and at what price?

Owns: which difference counts, and the four verdicts. Leaves to others: the replays (`what_if`), the
sentences (`effects`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvatlas.measure import Figures
from kvatlas.plan.words import is_ratio

__all__ = [
    "FAIR_PRICE",
    "LEAST_PER_TOKEN",
    "LEAST_RELATIVE",
    "LEAST_SHARE",
    "Moved",
    "Outcome",
    "compare",
]

LEAST_RELATIVE = 0.02
"""Replays are exact, so every difference is real; below a fiftieth nobody would feel it."""
LEAST_SHARE = 0.002
"""And of shares below a fifth of a point, so that 0.01% -> 0.02% is not called twice as much."""

Verdict = Literal["gain", "trade", "nothing", "worse"]

LEAST_PER_TOKEN = 0.1
"""An answer that flows a tenth slower is noticed; the fuller steps that buy anything cost less."""
FAIR_PRICE = 0.25
"""What gets worse by less than a quarter of the gain does not call the gain into question."""

_FLOW = "latency.tpot_p99_s"
"""Slower tokens can be a price; whether they make all of it worse, end to end times say."""
_GUARDS: dict[str, Literal["up", "down"]] = {
    # What a change must not spoil, whatever it was made for, and whither is better.
    "decisions.finished": "up",
    "prefix.token_hit_rate": "up",
    "preemption.waste": "down",
    "clock.simulated_s": "down",
    "latency.ttft_mean_s": "down",
    "latency.e2e_mean_s": "down",
    _FLOW: "down",
}
_WON = ("prefix.token_hit_rate", "preemption.waste", "clock.simulated_s", "latency.e2e_mean_s")
_SHOWN = (
    *_GUARDS,
    "preemption.count",
    "queue.time_mean_s",
    "queue.head_refused_share",
    "waste.internal_time_weighted",
)
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Moved:
    """A figure before and after."""

    figure: str
    before: float
    after: float

    @property
    def felt(self) -> bool:
        """Whether the difference counts; a request that is not served any more always does."""
        difference = abs(self.after - self.before)
        if self.figure == "decisions.finished":
            return difference > 0
        if is_ratio(self.figure) and difference < LEAST_SHARE:
            return False
        least = LEAST_PER_TOKEN if self.figure == _FLOW else LEAST_RELATIVE
        return difference > least * abs(self.before)

    def rise(self) -> float:
        """Return how much it rose: points of a share, else relative to what it was before."""
        difference = self.after - self.before
        if is_ratio(self.figure):
            return difference
        return difference / abs(self.before) if self.before else float(difference > 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did.

    Attributes:
        verdict: `gain`; `trade` (the target got better, something else worse, by more than a fair
            price and less than the gain, in points of a share or relative); `nothing`; `worse`.
        target: the figure that should move.
        better: by how much it got better: points of a share, else relative.
        spoilt: what got worse besides.
        others: further figures that moved, spoilt ones first.
        won: the most that any figure of which users or bills feel the difference got better, in
            points of a share or relative: hits, work done twice, time in all and per request.
    """

    verdict: Verdict
    target: Moved
    better: float
    spoilt: tuple[Moved, ...]
    others: tuple[Moved, ...]
    won: float


def compare(
    before: Figures,
    after: Figures,
    moves: Sequence[str],
    whither: Literal["up", "down", "keep"],
) -> Outcome | None:
    """Return what happened to the first of `moves` that both sheets know; None without one.

    `keep` asks for nothing but that nothing gets worse, which then is the gain.
    """
    target = next((moved for name in moves if (moved := _moved(name, before, after))), None)
    if target is None:
        return None
    direction = _GUARDS.get(target.figure, "down") if whither == "keep" else whither
    better = target.rise() if direction == "up" else -target.rise()
    others = [
        moved
        for name in _SHOWN
        if name != target.figure and (moved := _moved(name, before, after)) and moved.felt
    ]
    spoilt = tuple(
        moved
        for moved in others
        if (whither_better := _GUARDS.get(moved.figure))
        and (moved.rise() < 0) == (whither_better == "up")
    )
    if whither == "keep":
        worse = bool(spoilt) or (target.felt and better < 0)
        verdict: Verdict = "worse" if worse else "gain"
    elif not target.felt:
        verdict = "worse" if spoilt else "nothing"
    elif better < max((_harm(moved) for moved in spoilt if moved.figure != _FLOW), default=0.0):
        verdict = "worse"
    else:
        price = max(map(_harm, spoilt), default=0.0)
        verdict = "trade" if price > FAIR_PRICE * better else "gain"
    shown = sorted(others, key=lambda moved: moved not in spoilt)
    won = max(
        (
            abs(moved.rise())
            for moved in (target, *others)
            if moved.figure in _WON and moved.felt and moved not in spoilt
        ),
        default=0.0,
    )
    return Outcome(
        verdict, target, better, spoilt, tuple(shown[:_MOST_SHOWN]), won if better >= 0 else 0.0
    )


def _harm(spoilt: Moved) -> float:
    """Return how bad it is, on the scale of `Outcome.better`; nothing makes up for refusing."""
    return math.inf if spoilt.figure == "decisions.finished" else abs(spoilt.rise())


def _moved(name: str, before: Figures, after: Figures) -> Moved | None:
    old, new = before.values.get(name), after.values.get(name)
    return None if old is None or new is None else Moved(name, old, new)
