"""Each small policy for short memory on against off, on one trace: what it gained or lost.

Owns: which are tried with which settings, the pool they are tried in, the verdict and its
thresholds. Leaves to others: the policies (the engine), the figures (`kvatlas.measure`), views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.replay import blocks_needed
from kvatlas.engine.settings import SETTINGS
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.measure import Conditions, measure_replay
from kvatlas.registry import named
from kvatlas.workload import Workload

__all__ = [
    "HIT_POINTS",
    "PREEMPTION_SHARE",
    "SMALL_POLICIES",
    "TIME_SHARE",
    "PolicyTrial",
    "SmallPolicy",
    "TraceVerdicts",
    "pool_under_pressure",
    "try_policies",
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
_SLICE_STEPS = 1 << 15 if COMPILED else 64
_ROOM_FOR_LARGEST = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallPolicy:
    """One policy as it is tried.

    Attributes:
        name: what users type; summary: one sentence.
        settings: fields of `EngineConfig` that switch it on.
        flags: the same for `kvatlas replay`.
    """

    name: str
    summary: str
    settings: Mapping[str, int | float | bool]

    @property
    def flags(self) -> str:
        """The settings as flags of `kvatlas replay`."""
        words = [
            word for name, value in self.settings.items() for word in SETTINGS[name].words(value)
        ]
        return " ".join(filter(None, words))


SMALL_POLICIES: Mapping[str, SmallPolicy] = {
    name: SmallPolicy(name=name, summary=summary, settings=settings)
    for name, summary, settings in (
        (
            "lazy-free",
            "a finished request keeps its blocks for 32 steps unless somebody needs them",
            {"lazy_free_steps": 32},
        ),
        (
            "protect-waiting",
            "what the first 16 waiting requests will hit is kept from eviction",
            {"protect_waiting": 16},
        ),
        (
            "blocks-ahead",
            "a decoding request takes 4 blocks ahead while they are free",
            {"preallocate_blocks": 4},
        ),
        (
            "predicted-ahead",
            "a decoding request takes blocks up to its answer's predicted end",
            {"preallocate_predicted": True},
        ),
        (
            "admit-by-growth",
            "admission leaves room for all of the predicted growth of what runs",
            {"admission_growth": 1.0},
        ),
        (
            "admit-by-half",
            "admission leaves room for half of the predicted growth of what runs",
            {"admission_growth": 0.5},
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
        acted: how often the policy did anything.
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


Progress = Callable[[str, int], None]


def pool_under_pressure(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig,
    share: float,
    go_on: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Return (blocks, peak): `share` of what running requests hold at most with plenty of memory.

    One replay in a pool with room for twice the mean request in every place. At least a tenth more
    than the largest request takes, so that everybody can be served.
    """
    if not 0 < share <= 1:
        raise InputError("a share of the peak demand", field="share", value=share)
    needed = blocks_needed(workload, config)
    if needed.size == 0:
        raise InputError("no request to replay", field="trace", value=workload.name)
    largest = int(needed.max())
    places = min(config.max_num_seqs, workload.num_requests)
    plenty = 2 * max(largest, int(np.ceil(needed.mean() * places))) + 2
    replay = Replay(workload, _placed(config.with_(num_blocks=plenty), workload), drive)
    for _ in replay.slices(max_steps=_SLICE_STEPS):
        go_on(replay.requests_finished)
    peak = round(float(replay.result().decisions["peak_usage"]) * (plenty - 1))
    return max(int(share * peak), int(_ROOM_FOR_LARGEST * largest) + 2, 2), peak


def try_policies(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig,
    names: Sequence[str] | None = None,
    *,
    peak_blocks: int | None = None,
    on_progress: Progress = lambda name, done: None,
) -> TraceVerdicts:
    """Replay `workload` without and with each policy; one replay each.

    `on_progress` is called before each and between slices with the policy under way and the
    requests finished; what it raises ends the whole. Raises: InputError for an unknown policy.
    """
    asked = list(SMALL_POLICIES) if names is None else list(dict.fromkeys(names))
    tried = [named(SMALL_POLICIES, name, "policy", field="policies") for name in asked]
    off = _trial("off", workload, config, drive, on_progress)
    trials = []
    for policy in tried:
        changed = config.with_(**policy.settings)
        trials.append(judged(_trial(policy.name, workload, changed, drive, on_progress), off))
    return TraceVerdicts(
        trace=workload.name,
        requests=workload.num_requests,
        num_blocks=config.num_blocks,
        peak_blocks=peak_blocks,
        off=off,
        trials=tuple(trials),
    )


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
        verdict=word.get((bool(better), bool(worse)), "no gain"),
        gains=tuple(better),
        losses=tuple(worse),
    )


_ACTED = ("lazy_kept", "refreshed_blocks", "allocated_ahead", "held_back")


def _trial(
    name: str, workload: Workload, config: EngineConfig, drive: DriveConfig, on_progress: Progress
) -> PolicyTrial:
    on_progress(name, 0)
    replay = Replay(workload, _placed(config, workload), drive)
    for _ in replay.slices(max_steps=_SLICE_STEPS):
        on_progress(name, replay.requests_finished)
    result = replay.result()
    only = config.groups[0] if len(config.groups) == 1 else None
    conditions = Conditions(
        usable_blocks=config.num_blocks - 1,
        block_size=only.block_size if isinstance(only, FullAttentionSpec) else None,
        caching=config.enable_prefix_caching,
        timed=drive.arrivals == "timed",
        max_model_len=config.max_model_len,
    )
    values = measure_replay(result, workload, conditions).values
    pressure = replay.engine.pressure
    acted = 0
    if pressure is not None:
        acted = sum(int(getattr(pressure.info, count)) for count in _ACTED)

    def known(figure: str) -> float | None:
        value = values.get(figure)
        return None if value is None else float(value)

    return PolicyTrial(
        name=name,
        token_hit_rate=known("prefix.token_hit_rate"),
        preemptions=int(result.decisions["preemptions"]),
        recomputed_tokens=int(result.sums["recomputed_tokens"]),
        queue_mean_s=known("queue.time_mean_s"),
        finish_mean_s=known("latency.e2e_mean_s"),
        finished_after_s=known("clock.simulated_s") or 0.0,
        never_served=len(result.rejected),
        acted=acted,
    )


def _placed(config: EngineConfig, workload: Workload) -> EngineConfig:
    """No more can run than there are, and each place takes room for the longest request."""
    return config.with_(max_num_seqs=max(1, min(config.max_num_seqs, workload.num_requests)))
