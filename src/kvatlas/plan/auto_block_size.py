"""The block size for a trace, chosen before it is replayed: `kvatlas replay --block-size auto`.

Owns: which sizes a trace can be replayed at, what the choice rests on, the same memory in blocks of
another size. Leaves to others: the rule and its estimates (`block_size`), the replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.errors import InputError
from kvatlas.plan.block_size import CANDIDATES, AdaptiveBlockSizer, BlockSizeAdvice
from kvatlas.workload import Workload

__all__ = ["ChosenBlockSize", "choose_block_size", "fitting_block_sizes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenBlockSize:
    """A block size and what it rests on.

    Attributes:
        advice: the size, its estimate and those of the others.
        unfit: candidates that the trace cannot be replayed at.
        lengths_alone: why the estimates rest on lengths alone, all steps equally long; None where
            the requests were scheduled as they come.
        num_blocks: blocks of that size in the memory of the pool.
    """

    advice: BlockSizeAdvice
    unfit: tuple[int, ...]
    lengths_alone: str | None
    num_blocks: int

    @property
    def block_size(self) -> int:
        """The chosen size in tokens."""
        return self.advice.block_size

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know besides, a line each."""
        said = []
        if len(self.advice.estimates) == 1:
            said.append(
                f"block size: this trace can be replayed at {self.block_size} tokens only of "
                f"{_listed((self.block_size, *self.unfit))}"
            )
        elif self.unfit:
            said.append(
                f"block size: this trace cannot be replayed at {_listed(self.unfit)} tokens"
            )
        if self.lengths_alone is not None:
            said.append(f"block size: estimated from lengths alone: {self.lengths_alone}")
        return tuple(said)

    def said(self, measured_waste: float | None) -> dict[str, Any]:
        """Return the JSON's `block_size_choice`, beside what the replay measured, 0 to 1."""
        return {
            "block_size": self.block_size,
            "num_blocks": self.num_blocks,
            "reason": self.advice.reason,
            "requests": self.advice.requests,
            "basis": "schedule" if self.lengths_alone is None else "lengths",
            "expected_waste": self.advice.estimate.expected_waste,
            "efficiency": self.advice.estimate.efficiency,
            "measured_waste": measured_waste,
            "measured_efficiency": None if measured_waste is None else 1 - measured_waste,
            "unfit": list(self.unfit),
            "estimates": [asdict(estimate) for estimate in self.advice.estimates],
        }


def fitting_block_sizes(
    workload: Workload, config: EngineConfig, candidates: Sequence[int] = CANDIDATES
) -> tuple[int, ...]:
    """Return those of the candidates at which the trace can be replayed exactly, rising.

    Where prefixes are looked up, a size must divide the tokens of the trace's identities or be a
    multiple of them: else nobody knows whether two such blocks are equal.
    """
    span = workload.tokens_per_id
    free = not (workload.prefix_known and config.enable_prefix_caching)
    return tuple(
        size for size in sorted(set(candidates)) if free or span % size == 0 or size % span == 0
    )


def choose_block_size(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig,
    candidates: Sequence[int] = CANDIDATES,
) -> ChosenBlockSize:
    """Return the block size for a trace in the memory of `config`, before it is replayed.

    O(identities) and O(output tokens) for each size.

    Raises: InputError: several groups or layers that forget, no requests, no size that fits.
    """
    if len(config.groups) != 1 or not isinstance(config.groups[0], FullAttentionSpec):
        raise InputError(
            "a block size is chosen for one group of full attention",
            field="block_size",
            value="auto",
            remedy="give a number",
        )
    if not workload.num_requests:
        raise InputError("no requests", field="workload", value=workload.name)
    slots = config.num_blocks * config.groups[0].block_size
    fitting = fitting_block_sizes(workload, config, candidates)
    roomy = tuple(size for size in fitting if slots // size >= 2)
    if not roomy:
        raise InputError(
            f"none of {_listed(candidates)} fits the trace's {workload.tokens_per_id} tokens per "
            "identity and this pool",
            file=workload.source,
            field="block_size",
            value="auto",
            remedy=f"give a divisor or a multiple of {workload.tokens_per_id}",
        )
    alone = _why_lengths_alone(config)
    sizer = AdaptiveBlockSizer.of(
        workload, roomy, config=config if alone is None else None, drive=drive
    )
    advice = sizer.recommend()
    return ChosenBlockSize(
        advice=advice,
        unfit=tuple(size for size in sorted(set(candidates)) if size not in roomy),
        lengths_alone=alone,
        num_blocks=slots // advice.block_size,
    )


def _why_lengths_alone(config: EngineConfig) -> str | None:
    """Return why the steps cannot be foreseen under these settings, None when they can."""
    if config.policy != "fcfs":
        return f"the schedule is not foreseen under the policy {config.policy}"
    if config.max_num_batched_tokens < config.max_num_seqs:
        return "the schedule is not foreseen with fewer tokens per step than running requests"
    return None


def _listed(sizes: Sequence[int]) -> str:
    words = [str(size) for size in sorted(set(sizes))]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
