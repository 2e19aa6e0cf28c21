"""What a rule can read of a run, by name: figures, settings, the workload, and what follows.

Owns: `Reading`, and the figures that only rules need, each with its formula. A value that is not
there stays `None`, and whatever follows from it is `None`. Leaves to others: rules.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvatlas.measure import Figures
from kvatlas.report.numbers import count, percent, seconds
from kvatlas.workload import Workload

__all__ = ["DERIVED", "Derived", "Reading", "facts_of"]


@dataclass(frozen=True, slots=True)
class Derived:
    """A figure that follows from others: what it says, what it needs, and how."""

    says: str
    needs: tuple[str, ...]
    of: Callable[..., float]


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


DERIVED: Mapping[str, Derived] = {
    "room.hit_rate": Derived(
        "points between the hit rate and its ceiling",
        ("prefix.ceiling_token_hit_rate", "prefix.token_hit_rate"),
        lambda ceiling, rate: max(0.0, ceiling - rate),
    ),
    "lost.cold": Derived(
        "prompt tokens never seen before, over all prompt tokens",
        ("attribution.cold", "prefix.token_hit_rate"),
        lambda cold, rate: cold * (1 - rate),
    ),
    "lost.capacity": Derived(
        "prompt tokens whose blocks had been evicted, over all prompt tokens",
        ("attribution.capacity", "prefix.token_hit_rate"),
        lambda capacity, rate: capacity * (1 - rate),
    ),
    "lost.granularity": Derived(
        "prompt tokens lost to the rounding to whole blocks, over all prompt tokens",
        ("attribution.granularity", "prefix.token_hit_rate"),
        lambda granularity, rate: granularity * (1 - rate),
    ),
    "lost.side_by_side": Derived(
        "points below the ceiling that evictions do not explain: what was asked for before another "
        "request had computed it",
        ("prefix.ceiling_token_hit_rate", "prefix.token_hit_rate", "attribution.capacity"),
        lambda ceiling, rate, capacity: max(0.0, ceiling - rate - capacity * (1 - rate)),
    ),
    "lost.policy": Derived(
        "points between LRU alone and the optimum at this pool size",
        ("prefix.optimum_token_hit_rate", "prefix.lru_token_hit_rate"),
        lambda best, lru: max(0.0, best - lru),
    ),
    "ceiling.reached": Derived(
        "hit rate over its ceiling",
        ("prefix.token_hit_rate", "prefix.ceiling_token_hit_rate"),
        _share,
    ),
    "evicted.share": Derived(
        "evictions per block handed out", ("prefix.evicted_blocks", "allocation.blocks"), _share
    ),
    "evicted.premature_share": Derived(
        "evicted blocks that were asked for again",
        ("prefix.evicted_premature_blocks", "prefix.evicted_blocks"),
        _share,
    ),
    "duplicates.share": Derived(
        "blocks that hold what another block holds, over usable blocks",
        ("prefix.duplicate_blocks_mean", "setting.usable_blocks"),
        _share,
    ),
    "stranded.share": Derived(
        "cached blocks that no request can reach, over usable blocks",
        ("prefix.stranded_blocks_mean", "setting.usable_blocks"),
        _share,
    ),
    "preemption.per_request": Derived(
        "preemptions per request", ("preemption.count", "workload.requests"), _share
    ),
    "refused.decode_per_request": Derived(
        "refusals to requests that write their answer, per request",
        ("allocation.failed_decode", "workload.requests"),
        _share,
    ),
    "head_of_line.share": Derived(
        "time in which the head was refused although a later request would have fitted",
        ("queue.head_of_line_s", "clock.simulated_s"),
        _share,
    ),
    "seats.share": Derived(
        "requests running, over the most that may",
        ("running.time_weighted", "setting.max_num_seqs"),
        _share,
    ),
    "waiting.share": Derived(
        "requests that wait, of those that wait or run",
        ("queue.length_time_weighted", "running.time_weighted"),
        lambda waiting, running: _share(waiting, waiting + running),
    ),
    "free.share": Derived(
        "blocks that no request owns, on average", ("usage.time_weighted",), lambda used: 1 - used
    ),
    "free.at_peak_share": Derived(
        "blocks that no request owned at the peak", ("usage.peak",), lambda peak: 1 - peak
    ),
    "waste.of_pool_share": Derived(
        "empty slots of owned blocks, over the whole pool",
        ("waste.internal_time_weighted", "usage.time_weighted"),
        lambda waste, used: waste * used,
    ),
    "prompts.longest_in_steps": Derived(
        "steps that the longest prompt takes when it has the token budget for itself",
        ("workload.longest_prompt_tokens", "setting.max_num_batched_tokens"),
        _share,
    ),
    "prompts.longest_over_median": Derived(
        "the longest prompt over the median one",
        ("workload.longest_prompt_tokens", "workload.median_prompt_tokens"),
        _share,
    ),
}


def facts_of(workload: Workload) -> dict[str, float]:
    """Return what rules read of a workload and the JSON does not say: O(N)."""
    prompts = workload.prompt_tokens
    if prompts.size == 0:
        return {"requests": 0}
    return {
        "requests": workload.num_requests,
        "median_prompt_tokens": float(np.median(prompts)),
        "longest_prompt_tokens": int(prompts.max()),
        "priorities": int(np.unique(workload.priority).size),
    }


class Reading(string.Formatter):
    """A run as rules read it: `reading["setting.block_size"]` is a number or `None`.

    Names: the measurements' own; `setting.X` and `workload.X` of the JSON (a switch reads as 0 or
    1), `setting.is_priority` for the policy; and those of `DERIVED`. Where the trace does not say
    which prompts share a prefix, figures about prefixes are not known, whatever the sheet says.
    """

    def __init__(
        self,
        figures: Figures,
        config: Mapping[str, Any],
        workload: Mapping[str, Any] | None = None,
    ) -> None:
        self._figures, self._config, self._workload = figures, config, workload or {}
        # In a trace of lengths alone every prompt looks new; whether it is, nobody knows.
        self._no_prefixes = self._workload.get("prefix_known") is False

    def __getitem__(self, name: str) -> float | None:
        derived = DERIVED.get(name)
        if derived is not None:
            values = [self[need] for need in derived.needs]
            return None if None in values else derived.of(*values)
        place, _, key = name.partition(".")
        if name == "setting.is_priority":
            return float(self._config.get("policy") == "priority")
        if place == "setting":
            return _number(self._config.get(key))
        if place == "workload":
            return _number(self._workload.get(key))
        if self._no_prefixes and place in _ABOUT_PREFIXES and name not in _ABOUT_BLOCKS:
            return None
        return self._figures.values.get(name)

    def known(self, name: str) -> float:
        """Return a value that must be there. Raises: KeyError."""
        value = self[name]
        if value is None:
            raise KeyError(name)
        return value

    def sentence(self, template: str) -> str | None:
        """Return a template with its figures filled in; None when one of them is not known.

        `{prefix.token_hit_rate:share}`: after the colon `share`, `count` or `span` (seconds).
        """
        try:
            return self.format(template)
        except KeyError:
            return None

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[float, str]:
        """Look a placeholder up as a figure. Raises: KeyError when it is not known."""
        return self.known(field_name), field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write a figure in the unit that the template names."""
        return _UNITS[format_spec](value)


_ABOUT_PREFIXES = ("attribution", "prefix")
_ABOUT_BLOCKS = ("prefix.evicted_blocks",)

_UNITS: Mapping[str, Callable[[float], str]] = {
    "share": percent,
    "count": lambda number: count(round(number, 1) if number < 10 else round(number)),
    "span": seconds,
    "plain": lambda number: f"{number:g}",
}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None
