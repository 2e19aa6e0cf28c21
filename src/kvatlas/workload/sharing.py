"""How much of a workload's prompts was seen before: the ceiling of any prefix cache, and why.

Owns: the unbounded-cache hit rate under vLLM's rule, the most shared prefixes, and the times
between uses. It looks at the requests alone, in order of arrival, as if each finished before the
next came; a replay can only reuse less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

__all__ = ["ReuseTimes", "SharedPrefix", "Sharing", "describe_sharing", "reused_prompt_tokens"]

_TOP_PREFIXES = 5
_GAP_LOW_S = 1e-3
_GAPS_PER_OCTAVE = 16
_GAP_BINS = 1 + 40 * _GAPS_PER_OCTAVE  # up to 2**40 ms, 34 years


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix of `tokens` that begins `requests` prompts: as long as all of these share it."""

    tokens: int
    requests: int


@dataclass(frozen=True, slots=True)
class ReuseTimes:
    """Time between two uses of one identity, in seconds, over all `uses` but each one's first.

    Quantiles are read from bins 4.4% wide. Right-censored: a use after the end of the trace is
    not in it, so long times are under-counted.
    """

    uses: int
    p50_s: float
    p90_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """Reuse as an unbounded cache of `block_size`-token blocks would see it.

    `ceiling_token_hit_rate` = `ceiling_hit_tokens` / `queried_tokens`: full blocks only, up to the
    first gap, at least the last prompt token computed again (`prefix.ceiling_token_hit_rate`).
    `requests_with_reuse` counts the requests with at least one reused block. `unique_tokens` is the
    span of all distinct identities: what an unbounded cache would hold.
    """

    block_size: int
    tokens_per_id: int
    distinct_ids: int
    unique_tokens: int
    queried_tokens: int
    ceiling_hit_tokens: int
    ceiling_token_hit_rate: float
    requests_with_reuse: int
    outputs_identified: bool
    top_prefixes: tuple[SharedPrefix, ...]
    reuse: ReuseTimes | None


def reused_prompt_tokens(workload: Workload, block_size: int) -> NDArray[np.int64]:
    """Return per request (N,) the prompt tokens that an unbounded cache would serve. O(M).

    The rule is vLLM's: the longest run of full blocks from the start that an earlier request left
    behind, over at most floor((prompt - 1) / block_size) blocks. A request leaves its full blocks
    of prompt, and of outputs where these are identified, less the last sampled token, which is
    never computed.

    Raises: InputError where blocks and identities do not fit each other.
    """
    reused, _, _ = _walk(workload, block_size)
    return reused


def describe_sharing(workload: Workload, block_size: int) -> Sharing:
    """Measure the sharing of a workload whose prefixes are known. O(M + num_ids log num_ids).

    Raises: InputError where blocks and identities do not fit each other.
    """
    reused, gap_counts, seen_tokens = _walk(workload, block_size)
    queried_tokens = workload.total_prompt_tokens
    hit_tokens = int(reused.sum())
    return Sharing(
        block_size=block_size,
        tokens_per_id=workload.tokens_per_id,
        distinct_ids=workload.num_ids,
        unique_tokens=int(seen_tokens.sum(dtype=np.int64)),
        queried_tokens=queried_tokens,
        ceiling_hit_tokens=hit_tokens,
        ceiling_token_hit_rate=hit_tokens / queried_tokens,
        requests_with_reuse=int(np.count_nonzero(reused)),
        outputs_identified=workload.outputs_identified,
        top_prefixes=_top_prefixes(workload, seen_tokens),
        reuse=_reuse_times(gap_counts),
    )


def _walk(
    workload: Workload, block_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    from kvatlas.workload._sharing_kernel import reused_tokens

    span = workload.tokens_per_id
    if block_size < 1 or (span % block_size and block_size % span):
        raise InputError(
            f"blocks must divide {span} tokens or be a multiple of it",
            field="block_size",
            value=block_size,
            remedy=f"an identity of {workload.source} covers {span} tokens",
        )
    prompt_tokens = workload.prompt_tokens.astype(np.int64)
    kept_tokens = prompt_tokens
    if workload.outputs_identified:
        kept_tokens = prompt_tokens + workload.output_tokens - 1
    reused = np.zeros(workload.num_requests, dtype=np.int64)
    gap_counts = np.zeros(_GAP_BINS, dtype=np.int64)
    seen_tokens = np.zeros(workload.num_ids, dtype=np.int32)
    reused_tokens(
        workload.ids,
        workload.id_offsets,
        prompt_tokens,
        kept_tokens,
        workload.arrival_s,
        span,
        block_size,
        seen_tokens,
        np.zeros(workload.num_ids),
        reused,
        gap_counts,
        _GAP_LOW_S,
        _GAPS_PER_OCTAVE,
    )
    return reused, gap_counts, seen_tokens


def _top_prefixes(workload: Workload, seen_tokens: NDArray[np.int32]) -> tuple[SharedPrefix, ...]:
    """Return the prefixes of most requests, each as long as the very same requests share it."""
    from kvatlas.workload._sharing_kernel import prefix_tree

    counts = np.zeros(workload.num_ids, dtype=np.int64)
    before = np.empty(workload.num_ids, dtype=np.int64)
    depth = np.empty(workload.num_ids, dtype=np.int64)
    goes_on = np.zeros(workload.num_ids, dtype=np.bool_)
    prefix_tree(workload.ids, workload.id_offsets, counts, before, depth, goes_on)
    shared = np.flatnonzero((counts >= 2) & ~goes_on)
    best = shared[np.lexsort((-depth[shared], -counts[shared]))[:_TOP_PREFIXES]]
    tokens = (depth[best] - 1) * workload.tokens_per_id + seen_tokens[best]
    return tuple(
        SharedPrefix(int(length), int(requests))
        for length, requests in zip(tokens, counts[best], strict=True)
    )


def _reuse_times(gap_counts: NDArray[np.int64]) -> ReuseTimes | None:
    uses = int(gap_counts.sum())
    if uses == 0:
        return None
    reached = np.cumsum(gap_counts)

    def quantile_s(share: float) -> float:
        number = int(np.searchsorted(reached, share * uses))
        middle = _GAP_LOW_S * 2 ** ((number - 0.5) / _GAPS_PER_OCTAVE)
        return 0.0 if number == 0 else float(middle)

    return ReuseTimes(uses, quantile_s(0.5), quantile_s(0.9), quantile_s(0.99))
