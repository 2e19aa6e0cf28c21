"""What can be said of waste and reuse from the requests alone, before any engine runs.

Owns: waste at every request's final length, and reuse by an unbounded cache in the block view of
papers. Leaves to others: what an engine really holds (`temporal`), vLLM's ceiling (`sharing`).

Both figures differ from an engine's, and both are right. Waste at the final length weighs every
request by its slots, counts a shared block for each request, and looks at the last moment only; the
engine's is weighted by time, counts a shared block once, and sees every block while it fills up.
The block view counts the partial block at the end of a prompt, which vLLM neither caches nor
serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

I64 = NDArray[np.int64]

__all__ = ["BlockView", "FinalWaste", "block_view", "final_waste"]


@dataclass(frozen=True, slots=True)
class FinalWaste:
    """Slots that are empty when every request has its final length, no sharing counted.

    Attributes:
        block_size: tokens per block.
        live_tokens: sum of the final lengths; `allocated_slots`: of the blocks that hold them.
        waste: empty slots over allocated slots; None without requests.
    """

    block_size: int
    live_tokens: int
    allocated_slots: int
    waste: float | None


@dataclass(frozen=True, slots=True)
class BlockView:
    """Reuse of prompts by an unbounded cache that keeps partial blocks too.

    Attributes:
        token_hit_rate: prompt tokens in hit blocks over all prompt tokens.
        block_hit_rate: hit blocks over all blocks of the prompts, partial ones included.
        request_any: share of the requests that hit a block; `request_full`: all of their blocks.
        Each is None when there is nothing to divide by.
    """

    block_size: int
    hit_tokens: int
    queried_tokens: int
    hit_blocks: int
    queried_blocks: int
    token_hit_rate: float | None
    block_hit_rate: float | None
    request_any: float | None
    request_full: float | None


def final_waste(lengths: Workload | NDArray[Any], block_size: int) -> FinalWaste:
    """Return the waste at the final lengths: prompt and output, the last token included. O(N).

    Args:
        lengths: a workload, or the (N,) final lengths themselves.
        block_size: tokens per block.

    Raises: InputError for a block size below 1.
    """
    _check_size(block_size)
    if isinstance(lengths, Workload):
        tokens = lengths.prompt_tokens.astype(np.int64) + lengths.output_tokens
    else:
        tokens = np.asarray(lengths, np.int64)
    live = int(tokens.sum())
    allocated = int((-(-tokens // block_size)).sum()) * block_size
    return FinalWaste(block_size, live, allocated, _ratio(allocated - live, allocated))


def block_view(workload: Workload, block_size: int) -> BlockView:
    """Return how much of the prompts an unbounded cache would serve, as papers count it. O(M).

    A prompt is cut into ceil(tokens / block_size) blocks, the last of which may be partial and
    counts as one; hits are those from the start up to the first block that no earlier request had;
    no token need be computed again. Requests come one after the other, in order of arrival. (vLLM
    counts otherwise: full blocks only, and at least the last token of a prompt is computed again;
    see `kvatlas.workload.sharing.reused_prompt_tokens`.)

    Raises: InputError when the workload has lengths only, or its identities do not fit the blocks.
    """
    if not workload.prefix_known:
        raise InputError(
            "the trace has lengths only: which prompts share a prefix is unknown",
            field="block_view",
            value=workload.name,
            remedy="use a trace with block hashes or token ids",
        )
    _check_size(block_size)
    prompts = workload.prompt_tokens.astype(np.int64)
    blocks = -(-prompts // block_size)
    reused, rounded = _reused_with_partial(workload, block_size)
    hit_blocks = np.where(reused >= rounded, blocks, reused // block_size)
    hit_tokens = int(np.minimum(hit_blocks * block_size, prompts).sum())
    queried, rows = int(prompts.sum()), int(prompts.size)
    return BlockView(
        block_size=block_size,
        hit_tokens=hit_tokens,
        queried_tokens=queried,
        hit_blocks=int(hit_blocks.sum()),
        queried_blocks=int(blocks.sum()),
        token_hit_rate=_ratio(hit_tokens, queried),
        block_hit_rate=_ratio(int(hit_blocks.sum()), int(blocks.sum())),
        request_any=_ratio(int(np.count_nonzero(hit_blocks)), rows),
        request_full=_ratio(int(np.count_nonzero(hit_blocks == blocks)), rows),
    )


def _reused_with_partial(workload: Workload, block_size: int) -> tuple[I64, I64]:
    """Return per request the reused prompt tokens, and all of them, partial blocks rounded up.

    In units of the smaller of block and identity: a wide last block of a few identities is found
    when these are.
    """
    from kvatlas.workload._sharing_kernel import reused_tokens

    span = workload.tokens_per_id
    if span % block_size and block_size % span:
        raise InputError(
            f"blocks must divide {span} tokens or be a multiple of it",
            field="block_size",
            value=block_size,
            remedy=f"an identity of {workload.source} covers {span} tokens",
        )
    unit = min(block_size, span)
    prompts = workload.prompt_tokens.astype(np.int64)
    kept = prompts + workload.output_tokens if workload.outputs_identified else prompts
    rounded, reused = -(-prompts // unit) * unit, np.zeros_like(prompts)
    reused_tokens(
        workload.ids,
        workload.id_offsets,
        rounded + 1,  # so that the last token, which is always computed again, is one too many
        -(-kept // unit) * unit,
        workload.arrival_s,
        span,
        unit,
        np.zeros(workload.num_ids, np.int32),
        np.zeros(workload.num_ids),
        reused,
        np.zeros(1, np.int64),
        1.0,
        1,
    )
    return reused, rounded


def _check_size(block_size: int) -> None:
    if block_size < 1:
        raise InputError("must be at least 1", field="block_size", value=block_size)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
