"""What a generator hands over (`Draft`), how it becomes a `Workload`, and the shared sampling.

Owns: sorting by arrival, the links between turns, and the distributions that several generators
use, each with its exact mean. Leaves to others: which traffic to draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload.generators.segments import identify
from kvatlas.workload.model import Workload

__all__ = [
    "Draft",
    "arrivals_complete",
    "before_in_chain",
    "chain_numbers",
    "lognormal",
    "lognormal_tokens",
    "poisson_arrivals",
    "zipf_choice",
]


@dataclass(frozen=True, slots=True)
class Draft:
    """R requests in any order, and the G segments of text that their prompts are made of.

    The workload is the first `num_requests` of them by arrival, R or fewer. `arrival_s` (R,) any
    origin; `output_tokens` (R,); `leaf` (R,) the segment with which the prompt ends, or with which
    the *output* ends when `outputs_identified`; `segment_parent` and `segment_tokens` (G,) as
    `identify` takes them; `session` (R,) numbered by first arrival, or None; `previous` (R,) the
    row of the turn before, which arrives earlier (-1: none), or None.
    """

    num_requests: int
    arrival_s: NDArray[np.float64]
    output_tokens: NDArray[np.int64]
    leaf: NDArray[np.int64]
    segment_parent: NDArray[np.int64]
    segment_tokens: NDArray[np.int64]
    note: str
    outputs_identified: bool = False
    session: NDArray[np.int64] | None = None
    previous: NDArray[np.int64] | None = None

    def workload(self, name: str, source: str, tokens_per_id: int) -> Workload:
        """Return the requests in order of arrival, the first at 0 s. O(R log R + M) for M ids."""
        order = np.argsort(self.arrival_s, kind="stable")[: self.num_requests]
        rows = order.size
        arrival_s = self.arrival_s[order]
        ids, offsets, num_ids, covered = identify(
            self.segment_parent, self.segment_tokens, self.leaf[order], tokens_per_id
        )
        output_tokens = self.output_tokens[order]
        unknown = np.full(rows, -1, dtype=np.int32)
        return Workload(
            name=name,
            source=source,
            arrival_s=arrival_s - arrival_s[0],
            prompt_tokens=(covered - output_tokens * self.outputs_identified).astype(np.int32),
            output_tokens=output_tokens.astype(np.int32),
            tokens_per_id=tokens_per_id,
            ids=ids,
            id_offsets=offsets,
            num_ids=num_ids,
            prefix_known=True,
            outputs_identified=self.outputs_identified,
            session=unknown if self.session is None else self.session[order].astype(np.int32),
            parent=unknown if self.previous is None else _moved(self.previous, order),
            priority=np.zeros(rows, dtype=np.int32),
            salt=np.zeros(rows, dtype=np.int32),
            notes=(self.note,),
        )


def _moved(previous: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return `previous` for the rows in `order`: both the rows and what they point at move."""
    place = np.empty(previous.size, dtype=np.int32)
    place[order] = np.arange(order.size, dtype=np.int32)
    pointed = previous[order]
    return np.where(pointed >= 0, place[pointed], np.int32(-1))


def lognormal(
    rng: np.random.Generator, mean: float, sigma: float, size: int
) -> NDArray[np.float64]:
    """Draw `size` lognormal values with exactly this `mean`; `sigma` is that of the logarithm."""
    return rng.lognormal(np.log(mean) - sigma * sigma / 2, sigma, size)


def lognormal_tokens(
    rng: np.random.Generator, mean: float, sigma: float, size: int, longest: int
) -> NDArray[np.int64]:
    """Draw `size` lengths in `[1, longest]`, lognormal, of this mean before clipping."""
    drawn = np.rint(lognormal(rng, mean, sigma, size))
    tokens: NDArray[np.int64] = np.clip(drawn, 1, longest).astype(np.int64)
    return tokens


def zipf_choice(
    rng: np.random.Generator, items: int, exponent: float, size: int
) -> NDArray[np.int64]:
    """Draw `size` of `items` things, thing k (from 0) with weight 1 / (k + 1)**exponent."""
    weights = np.arange(1, items + 1, dtype=np.float64) ** -exponent
    edges = np.cumsum(weights)
    chosen = np.searchsorted(edges, rng.random(size) * edges[-1], side="right")
    items_chosen: NDArray[np.int64] = np.minimum(chosen, items - 1).astype(np.int64)
    return items_chosen


def poisson_arrivals(rng: np.random.Generator, per_second: float, size: int) -> NDArray[np.float64]:
    """Draw the times of `size` arrivals of a Poisson process of this rate."""
    return np.cumsum(rng.exponential(1 / per_second, size))


def arrivals_complete(
    arrival_s: NDArray[np.float64], last_start_s: float, num_requests: int
) -> bool:
    """Return whether the first `num_requests` arrivals are known when sessions start in order.

    They are once the last session drawn starts after them: no later session can add to them.
    """
    if arrival_s.size < num_requests:
        return False
    return bool(np.partition(arrival_s, num_requests - 1)[num_requests - 1] <= last_start_s)


def chain_numbers(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's chain, and the chains' starts, for chains of `lengths` end to end."""
    starts = np.cumsum(lengths) - lengths
    return np.repeat(np.arange(lengths.size), lengths), starts


def before_in_chain(
    values: NDArray[Any], chain: NDArray[np.int64], starts: NDArray[np.int64]
) -> NDArray[Any]:
    """Return the sum of `values` over the earlier rows of each row's own chain. O(rows)."""
    before = np.cumsum(values) - values
    return np.asarray(before - before[starts][chain])
