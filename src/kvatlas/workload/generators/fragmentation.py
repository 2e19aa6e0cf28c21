"""Four small scenarios that fragment a pool on purpose: `comb`, `sawtooth`, `survivors`,
`mixed-sizes`.

Nothing is shared in them: every prompt is fresh text, so what they show is placement alone. Each is
a pattern of sizes and lifetimes (a request lives for about as many steps as it has output tokens);
the pattern is the same for every seed where it says "exactly". Checked in
tests/workload/test_generators.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.generators.draft import Draft, poisson_arrivals
from kvatlas.workload.generators.knobs import knob

__all__ = [
    "CombKnobs",
    "MixedSizesKnobs",
    "SawtoothKnobs",
    "SurvivorsKnobs",
    "comb",
    "mixed_sizes",
    "sawtooth",
    "survivors",
]

_MOST_TOKENS = 1_000_000


def _tokens(default: int, what: str) -> int:
    length: int = knob(default, "tokens", what, at_least=1, at_most=_MOST_TOKENS)
    return length


def _requests() -> int:
    rows: int = knob(2000, "requests", "how many", at_least=1, at_most=50_000_000)
    return rows


def _rate() -> float:
    rate: float = knob(10.0, "1/s", "mean rate of arrivals", above=0)
    return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class CombKnobs:
    """Knobs of `comb`."""

    num_requests: int = _requests()
    requests_per_s: float = _rate()
    prompt_tokens: int = _tokens(512, "every prompt")
    short_output_tokens: int = _tokens(8, "output of the even requests")
    long_output_tokens: int = _tokens(1024, "output of the odd requests")


def comb(knobs: CombKnobs, rng: np.random.Generator) -> Draft:
    """Draw equal prompts of which every second one lives long: the others leave a comb of holes.

    Exactly alternating, evenly spaced (CV 0).
    """
    odd = np.arange(knobs.num_requests) % 2 == 1
    return _independent(
        _even(knobs.num_requests, knobs.requests_per_s),
        np.full(knobs.num_requests, knobs.prompt_tokens),
        np.where(odd, knobs.long_output_tokens, knobs.short_output_tokens),
        "synthetic comb: equal prompts, every second one long-lived",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SawtoothKnobs:
    """Knobs of `sawtooth`."""

    num_requests: int = _requests()
    requests_per_s: float = _rate()
    period: int = knob(100, "requests", "from one collapse to the next", at_least=2)
    low_tokens: int = _tokens(64, "prompt after a collapse")
    high_tokens: int = _tokens(4096, "prompt before a collapse")
    output_tokens: int = _tokens(128, "every output")

    def __post_init__(self) -> None:
        _ordered("low_tokens", self.low_tokens, "high_tokens", self.high_tokens)


def sawtooth(knobs: SawtoothKnobs, rng: np.random.Generator) -> Draft:
    """Draw prompts that grow evenly over a period and then collapse; every hole is soon too small.

    Exactly periodic, evenly spaced (CV 0); the mean prompt of a period is (low + high) / 2.
    """
    phase = np.arange(knobs.num_requests) % knobs.period
    span = knobs.high_tokens - knobs.low_tokens
    return _independent(
        _even(knobs.num_requests, knobs.requests_per_s),
        knobs.low_tokens + np.rint(span * phase / (knobs.period - 1)).astype(np.int64),
        np.full(knobs.num_requests, knobs.output_tokens),
        "synthetic sawtooth: prompts that ramp up and collapse",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorsKnobs:
    """Knobs of `survivors`."""

    num_requests: int = _requests()
    requests_per_s: float = _rate()
    every: int = knob(50, "requests", "one survivor in this many", at_least=1)
    survivor_prompt_tokens: int = _tokens(256, "prompt of a survivor")
    survivor_output_tokens: int = _tokens(8192, "output of a survivor")
    churn_low_tokens: int = _tokens(64, "shortest prompt of the others")
    churn_high_tokens: int = _tokens(1024, "longest prompt of the others")
    churn_output_tokens: int = _tokens(32, "output of the others")

    def __post_init__(self) -> None:
        names = ("churn_low_tokens", "churn_high_tokens")
        _ordered(names[0], self.churn_low_tokens, names[1], self.churn_high_tokens)


def survivors(knobs: SurvivorsKnobs, rng: np.random.Generator) -> Draft:
    """Draw a few very long-lived requests among churn: they pin the pool in many places.

    Exactly one survivor in `every`; the others' prompts are uniform; Poisson arrivals (CV 1).
    """
    rows = knobs.num_requests
    lives = np.arange(rows) % knobs.every == knobs.every - 1
    churn = rng.integers(knobs.churn_low_tokens, knobs.churn_high_tokens, rows, endpoint=True)
    return _independent(
        poisson_arrivals(rng, knobs.requests_per_s, rows),
        np.where(lives, knobs.survivor_prompt_tokens, churn),
        np.where(lives, knobs.survivor_output_tokens, knobs.churn_output_tokens),
        "synthetic survivors: few very long-lived requests among churn",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSizesKnobs:
    """Knobs of `mixed-sizes`."""

    num_requests: int = _requests()
    requests_per_s: float = _rate()
    large_share: float = knob(0.1, "", "of the requests", at_least=0, at_most=1)
    small_tokens: int = _tokens(128, "small prompt")
    large_tokens: int = _tokens(8192, "large prompt")
    output_tokens: int = _tokens(128, "every output")


def mixed_sizes(knobs: MixedSizesKnobs, rng: np.random.Generator) -> Draft:
    """Draw prompts of two sizes at random: `large_share` of them large; Poisson arrivals (CV 1)."""
    rows = knobs.num_requests
    large = rng.random(rows) < knobs.large_share
    return _independent(
        poisson_arrivals(rng, knobs.requests_per_s, rows),
        np.where(large, knobs.large_tokens, knobs.small_tokens),
        np.full(rows, knobs.output_tokens),
        "synthetic mixed sizes: a few large prompts among many small ones",
    )


def _independent(
    arrival_s: NDArray[np.float64],
    prompt_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    note: str,
) -> Draft:
    """Return requests without a common token: a segment of its own for each."""
    return Draft(
        num_requests=prompt_tokens.size,
        arrival_s=arrival_s,
        output_tokens=output_tokens,
        leaf=np.arange(prompt_tokens.size),
        segment_parent=np.full(prompt_tokens.size, -1),
        segment_tokens=prompt_tokens.astype(np.int64),
        note=note,
    )


def _even(rows: int, per_second: float) -> NDArray[np.float64]:
    return np.arange(rows) / per_second


def _ordered(low_name: str, low: int, high_name: str, high: int) -> None:
    if low > high:
        raise InputError(f"must be at most {high_name} = {high}", field=low_name, value=low)
