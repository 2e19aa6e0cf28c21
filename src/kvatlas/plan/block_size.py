"""`AdaptiveBlockSizer`: which block size fits the lengths of the requests that come.

Owns: the waste that lengths alone predict, what larger blocks cost in hits and save in books, the
choice. Leaves to others: measuring it in a replay of each size (`block_size_replay`), waste as a
run really had it (`kvatlas.measure`).

The prediction. A request of p prompt and o output tokens computes its prompt and then one token per
step, all but the last: in o steps it holds p, p + 1, ... p + o - 1 tokens. With blocks of B tokens
its share of the integrals over time, if all steps were equally long, is

    live = sum of L over [p, p + o)        allocated = B * sum of ceil(L / B) over [p, p + o)

and internal waste, as everywhere, is (allocated - live) / allocated with both summed over requests.
Both sums have closed forms. Steps differ in length, which matters when many requests start at once:
with a workload and its settings the same sums run over a schedule (`block_size_steps`). Left out in
both: shared blocks (counted once in a pool, which lowers `allocated` and raises the ratio),
preemption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.errors import InputError
from kvatlas.measure.final_waste import final_waste
from kvatlas.plan.block_size_steps import StepSchedule, schedule_steps
from kvatlas.workload import Workload
from kvatlas.workload.sharing import reused_prompt_tokens

__all__ = ["AdaptiveBlockSizer", "BlockSizeAdvice", "BlockSizeEstimate", "expected_waste"]

I64 = NDArray[np.int64]

CANDIDATES = (16, 32, 64, 128, 256)
"""What vLLM's attention kernels take: multiples of 16."""
_BOOK_BYTES = 64
"""Bytes of the pool's books per block, as `python -m benchmarks memory` measures them here."""
_TABLE_BYTES = 4
"""Bytes of an entry in a request's block table."""
_LONGEST = 1 << 40


@dataclass(frozen=True, slots=True)
class BlockSizeEstimate:
    """What one block size would cost.

    Attributes:
        block_size: tokens.
        expected_waste: internal waste over time, 0 to 1 (`waste.internal_time_weighted`).
        final_waste: the same at every request's final length (`waste.final_length_share`), exact.
        efficiency: 1 - expected_waste: the share of the used slots that hold a token.
        mean_blocks: blocks of a request at its final length; also the descriptors that its transfer
            needs when no two of them lie side by side.
        books_bytes_per_token: bytes of books on the host per token of the pool.
        ceiling_token_hit_rate: what an unbounded prefix cache of such blocks would serve; None when
            it is not known which prompts share a prefix, or when the blocks do not fit the trace's
            identities.
    """

    block_size: int
    expected_waste: float
    final_waste: float
    efficiency: float
    mean_blocks: float
    books_bytes_per_token: float
    ceiling_token_hit_rate: float | None


@dataclass(frozen=True, slots=True)
class BlockSizeAdvice:
    """The block size to take, and why.

    Attributes:
        block_size: the recommended one; estimate: what it costs.
        estimates: all candidates, the smallest first.
        reason: a sentence.
        requests: how many lengths this rests on.
    """

    block_size: int
    estimate: BlockSizeEstimate
    estimates: tuple[BlockSizeEstimate, ...]
    reason: str
    requests: int


def expected_waste(prompt_tokens: ArrayLike, output_tokens: ArrayLike, block_size: int) -> float:
    """Return the internal waste over time that lengths alone predict, 0 to 1. O(N).

    Args:
        prompt_tokens, output_tokens: (N,) of each request, at least 1 and 0; one without output
            holds its prompt for a step.
        block_size: tokens per block.

    Raises: InputError: no requests, lengths that cannot be, a block size below 1.
    """
    prompts, outputs = _lengths(prompt_tokens, output_tokens)
    _check_size(block_size)
    if not prompts.size:
        raise InputError("no lengths were seen", field="prompt_tokens")
    last = prompts + np.maximum(1, outputs) - 1
    # In floats of 64 bits: sums over many long requests pass 2**63, and 1e-16 is precise enough.
    live = (last * (last + 1.0) - prompts * (prompts - 1.0)).sum() / 2
    allocated = (
        block_size * (_ceil_sum(last, block_size) - _ceil_sum(prompts - 1, block_size)).sum()
    )
    return float(1 - live / allocated)


def _ceil_sum(up_to: I64, block_size: int) -> NDArray[np.float64]:
    """Return the sum of ceil(L / block_size) over L from 1 to `up_to`."""
    whole, rest = np.divmod(up_to, block_size)
    return whole * (whole + 1.0) / 2 * block_size + rest * (whole + 1.0)


class AdaptiveBlockSizer:
    """Recommends a block size from the lengths seen so far, and follows them as they change.

    The choice is the largest candidate that costs at most `tolerance` more internal waste than the
    smallest one, and at most `tolerance` of the hit rate where that is known: what larger blocks
    are for (fewer table entries, hashes, descriptors) is wanted as long as it is nearly free. A
    size in use is kept while it keeps to that and the next larger one is not twice as good, so that
    noise does not change it. An engine can change its block size only when it starts.

    Args:
        candidates: block sizes in tokens.
        tolerance: points of waste and of hit rate that larger blocks may cost, 0 to 1.
        window: requests remembered; the oldest are forgotten.
        current: the block size in use, if any.

    Raises: InputError: no candidates, or values that cannot be.
    """

    def __init__(
        self,
        candidates: Sequence[int] = CANDIDATES,
        *,
        tolerance: float = 0.01,
        window: int = 1 << 16,
        current: int | None = None,
    ) -> None:
        if not candidates:
            raise InputError("name at least one block size", field="candidates")
        for block_size in candidates:
            _check_size(block_size)
        if not 0 <= tolerance <= 1:
            raise InputError("must be 0 to 1", field="tolerance", value=tolerance)
        if not _is_whole(window) or window < 1:
            raise InputError(
                "must be a whole number of at least 1 request", field="window", value=window
            )
        if current is not None and current not in candidates:
            raise InputError("must be one of the candidates", field="current", value=current)
        self.candidates = tuple(sorted(set(candidates)))
        self.tolerance, self.window, self.current = tolerance, window, current
        self._prompts = self._outputs = np.empty(0, np.int64)
        self._ceilings: dict[int, float] = {}
        self._schedule: StepSchedule | None = None

    @classmethod
    def of(
        cls,
        workload: Workload,
        candidates: Sequence[int] = CANDIDATES,
        *,
        tolerance: float = 0.01,
        current: int | None = None,
        config: EngineConfig | None = None,
        drive: DriveConfig | None = None,
    ) -> AdaptiveBlockSizer:
        """Return a sizer that has seen a whole workload, its shared prefixes too.

        With `config` the requests are scheduled as they come (`drive`), in a pool without end, and
        the expected waste is over that clock. O(identities), and O(output tokens) per estimate.
        """
        window = max(1, workload.num_requests)
        sizer = cls(candidates, tolerance=tolerance, window=window, current=current)
        sizer.observe(workload.prompt_tokens, workload.output_tokens)
        if workload.prefix_known:
            span, queried = workload.tokens_per_id, max(1, workload.total_prompt_tokens)
            for block_size in sizer.candidates:
                if span % block_size == 0 or block_size % span == 0:
                    reused = reused_prompt_tokens(workload, block_size)
                    sizer._ceilings[block_size] = int(reused.sum()) / queried
        if config is not None:
            sizer._schedule = schedule_steps(workload, config, drive)
        return sizer

    @property
    def requests(self) -> int:
        """Lengths that are remembered."""
        return int(self._prompts.size)

    def observe(self, prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> None:
        """Take in finished requests, one or many, the oldest first; O(window) at most.

        Prefixes and schedule of a workload speak of other requests then and are forgotten.

        Raises: InputError: lengths that cannot be.
        """
        prompts, outputs = _lengths(prompt_tokens, output_tokens)
        self._prompts = np.concatenate((self._prompts, prompts))[-self.window :]
        self._outputs = np.concatenate((self._outputs, outputs))[-self.window :]
        self._ceilings.clear()
        self._schedule = None

    def estimate(self, block_size: int) -> BlockSizeEstimate:
        """Return what one block size would cost. Raises: InputError before any length was seen."""
        _check_size(block_size)
        if self._schedule is not None:
            waste = self._schedule.waste(block_size)
        else:
            waste = expected_waste(self._prompts, self._outputs, block_size)
        lengths = self._prompts + self._outputs
        final = final_waste(lengths, block_size)
        assert final.waste is not None
        return BlockSizeEstimate(
            block_size=block_size,
            expected_waste=waste,
            final_waste=final.waste,
            efficiency=1 - waste,
            mean_blocks=final.allocated_slots / block_size / lengths.size,
            books_bytes_per_token=(_BOOK_BYTES + _TABLE_BYTES) / block_size,
            ceiling_token_hit_rate=self._ceilings.get(block_size),
        )

    def recommend(self) -> BlockSizeAdvice:
        """Return the block size to take; it becomes `current`.

        Raises: InputError before any length was seen.
        """
        estimates = tuple(self.estimate(block_size) for block_size in self.candidates)
        costs = {each.block_size: _cost(each, estimates[0]) for each in estimates}
        fitting = [size for size in self.candidates if costs[size] <= self.tolerance]
        chosen = fitting[-1]  # the smallest costs nothing beyond itself
        now, kept = self.current, False
        if now is not None and costs[now] <= self.tolerance and chosen != now:
            kept = costs[chosen] > self.tolerance / 2
            chosen = now if kept else chosen
        self.current = chosen
        estimate = next(each for each in estimates if each.block_size == chosen)
        return BlockSizeAdvice(
            chosen, estimate, estimates, _reason(estimate, estimates, kept), self.requests
        )


def _cost(estimate: BlockSizeEstimate, smallest: BlockSizeEstimate) -> float:
    """Return the points lost against the smallest blocks: of memory or of hits, the larger."""
    waste = estimate.expected_waste - smallest.expected_waste
    hits, best = estimate.ceiling_token_hit_rate, smallest.ceiling_token_hit_rate
    return waste if hits is None or best is None else max(waste, best - hits)


def _reason(chosen: BlockSizeEstimate, estimates: tuple[BlockSizeEstimate, ...], kept: bool) -> str:
    smallest = estimates[0]
    text = f"{chosen.block_size}-token blocks waste {chosen.expected_waste:.2%} of the used slots"
    if chosen is not smallest:
        text += f", {smallest.block_size}-token blocks {smallest.expected_waste:.2%}"
        text += f", with {smallest.mean_blocks / chosen.mean_blocks:.1f} times as many blocks"
    larger = next((each for each in estimates if each.block_size > chosen.block_size), None)
    if larger is not None:
        text += f"; {larger.block_size} would waste {larger.expected_waste:.2%}"
        mine, theirs = chosen.ceiling_token_hit_rate, larger.ceiling_token_hit_rate
        if mine is not None and theirs is not None and f"{mine:.2%}" != f"{theirs:.2%}":
            text += f" and lower the ceiling of the hit rate from {mine:.2%} to {theirs:.2%}"
    return text + ("; kept, the gain of a change is too small" if kept else "")


def _lengths(prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> tuple[I64, I64]:
    found = []
    for field, given, least in (
        ("prompt_tokens", prompt_tokens, 1),
        ("output_tokens", output_tokens, 0),
    ):
        values = np.atleast_1d(np.asarray(given))
        if values.size and (
            values.ndim != 1
            or values.dtype.kind not in "iu"
            or values.min() < least
            or values.max() > _LONGEST
        ):
            raise InputError(
                f"must be whole numbers from {least} to {_LONGEST:,}", field=field, value=given
            )
        found.append(values.astype(np.int64))
    if found[0].size != found[1].size:
        raise InputError(
            f"{found[0].size} prompts need as many outputs",
            field="output_tokens",
            value=found[1].size,
        )
    return found[0], found[1]


def _check_size(block_size: int) -> None:
    if not _is_whole(block_size) or block_size < 1:
        raise InputError(
            "must be a whole number of at least 1", field="block_size", value=block_size
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer)
