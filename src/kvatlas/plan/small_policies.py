"""Each small policy for short memory on against off, on one trace: what it gained or lost.

Owns: which are tried with which settings and against what, the verdict and its thresholds. Leaves
to others: the replays (`policy_trials`), the policies (the engine), views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kvatlas.engine.settings import SETTINGS

__all__ = [
    "HIT_POINTS",
    "PREEMPTION_SHARE",
    "SMALL_POLICIES",
    "TIERED",
    "TIME_SHARE",
    "PolicyTrial",
    "SmallPolicy",
    "TraceVerdicts",
    "judged",
]

HIT_POINTS = 0.1
"""Points of token hit rate below which a difference says nothing."""
PREEMPTION_SHARE = 0.05
"""Share of the preemptions without the policy by which they must differ, and by 5 at least; the
same of the tokens computed again after them, and by 1,000 at least."""
TIME_SHARE = 0.01
"""Share by which a mean time must differ, and by 10 ms at least."""

_FEW, _FEW_TOKENS = 5, 1_000
_SHORT_S = 0.010

OFF, TIERED = "off", "host-tier"
"""What policies are held against: nothing at all, and a host tier as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallPolicy:
    """One policy as it is tried.

    Attributes:
        name: what users type; summary: one sentence.
        settings: fields of `EngineConfig` that switch it on.
        tiered: it is tried with a host tier below the device.
        block_size: the block size is chosen from the trace, on the same memory.
        budgeted: the device and the host tier are one budget, which begins at their sizes.
        against: the trial that it is judged beside: `off`, or another policy.
        flags: the settings for `kvatlas replay`.
    """

    name: str
    summary: str
    settings: Mapping[str, int | float | bool] = field(default_factory=dict)
    tiered: bool = False
    block_size: bool = False
    budgeted: bool = False
    against: str = OFF

    @property
    def flags(self) -> str:
        """The settings as flags of `kvatlas replay`."""
        words = ["--block-size auto"] if self.block_size else []
        words += [
            word for name, value in self.settings.items() for word in SETTINGS[name].words(value)
        ]
        return " ".join(filter(None, words))


SMALL_POLICIES: Mapping[str, SmallPolicy] = {
    policy.name: policy
    for policy in (
        SmallPolicy(
            name="lazy-free",
            summary="a finished request keeps its blocks for 32 steps unless somebody needs them",
            settings={"lazy_free_steps": 32},
        ),
        SmallPolicy(
            name="protect-waiting",
            summary="what the first 16 waiting requests will hit is kept from eviction",
            settings={"protect_waiting": 16},
        ),
        SmallPolicy(
            name="blocks-ahead",
            summary="a decoding request takes 4 blocks ahead while they are free",
            settings={"preallocate_blocks": 4},
        ),
        SmallPolicy(
            name="predicted-ahead",
            summary="a decoding request takes blocks up to its answer's predicted end",
            settings={"preallocate_predicted": True},
        ),
        SmallPolicy(
            name="admit-by-growth",
            summary="admission leaves room for all of the predicted growth of what runs",
            settings={"admission_growth": 1.0},
        ),
        SmallPolicy(
            name="admit-by-half",
            summary="admission leaves room for half of the predicted growth of what runs",
            settings={"admission_growth": 0.5},
        ),
        SmallPolicy(
            name="block-size",
            summary="the block size is chosen from the trace's lengths, on the same memory",
            block_size=True,
        ),
        SmallPolicy(
            name=TIERED,
            summary="what the device evicts is kept in a host tier, four times as large",
            tiered=True,
        ),
        SmallPolicy(
            name="prefetch",
            summary="with it, what the first 16 waiting requests will hit is brought back early",
            settings={"protect_waiting": 16},
            tiered=True,
            against=TIERED,
        ),
        SmallPolicy(
            name="hybrid",
            summary="with it, the division between device and host follows what would have hit",
            tiered=True,
            budgeted=True,
            against=TIERED,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTrial:
    """One policy's replay, and what it says beside the one without.

    Attributes:
        name: of the policy, "off" for none.
        token_hit_rate: None where prefixes are unknown.
        preemptions: how often a request lost its blocks; recomputed_tokens: what that cost.
        queue_mean_s, finish_mean_s: arrival to first scheduled, arrival to last token; None in a
            backlog. finished_after_s: the simulated clock at the end.
        acted: how often the policy did anything; detail: what it chose, in words.
        against: the trial that the verdict compares it with.
        verdict: "gain", "mixed", "no gain" or "loss"; "" for off.
        gains, losses: which figures moved by more than the thresholds, in words.
    """

    name: str
    token_hit_rate: float | None
    preemptions: int
    recomputed_tokens: int
    queue_mean_s: float | None
    finish_mean_s: float | None
    finished_after_s: float
    never_served: int
    acted: int = 0
    detail: str = ""
    against: str = ""
    verdict: str = ""
    gains: tuple[str, ...] = field(default=())
    losses: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceVerdicts:
    """All trials of one trace.

    Attributes:
        trace: its name; requests: how many.
        num_blocks: the pool.
        peak_blocks: blocks that running requests held at most with memory in plenty; None when the
            pool's size was given.
        off: the replay without any policy; trials: one per policy.
    """

    trace: str
    requests: int
    num_blocks: int
    peak_blocks: int | None
    off: PolicyTrial
    trials: tuple[PolicyTrial, ...]


def judged(trial: PolicyTrial, off: PolicyTrial) -> PolicyTrial:
    """Return the trial with its verdict: what moved by more than the thresholds, for better or not.

    A gain needs one figure that is better and none that is worse.
    """
    better: list[str] = []
    worse: list[str] = []
    if trial.token_hit_rate is not None and off.token_hit_rate is not None:
        points = 100 * (trial.token_hit_rate - off.token_hit_rate)
        if abs(points) >= HIT_POINTS:
            (better if points > 0 else worse).append(f"hits {points:+.1f} points")
    more = trial.preemptions - off.preemptions
    if abs(more) >= max(_FEW, PREEMPTION_SHARE * off.preemptions):
        (better if more < 0 else worse).append(f"preemptions {more:+,}")
    again = trial.recomputed_tokens - off.recomputed_tokens
    if abs(again) >= max(_FEW_TOKENS, PREEMPTION_SHARE * off.recomputed_tokens):
        (better if again < 0 else worse).append(f"recomputed {again:+,}")
    for what, ours, theirs in (
        ("queue", trial.queue_mean_s, off.queue_mean_s),
        ("finish", trial.finish_mean_s, off.finish_mean_s),
        ("end", trial.finished_after_s, off.finished_after_s),
    ):
        if ours is None or theirs is None:
            continue
        longer_s = ours - theirs
        if abs(longer_s) >= max(_SHORT_S, TIME_SHARE * theirs):
            share = f"{longer_s / theirs:+.1%}" if theirs > 0 else f"{longer_s:+.2f} s"
            (better if longer_s < 0 else worse).append(f"{what} {share}")
    word = {(True, False): "gain", (True, True): "mixed", (False, True): "loss"}
    return replace(
        trial,
        against=off.name,
        verdict=word.get((bool(better), bool(worse)), "no gain"),
        gains=tuple(better),
        losses=tuple(worse),
    )
