"""Prefill chunks of Mamba models in `align` mode: they end where a state can be kept.

Owns: clipping a chunk. Leaves to others: everything else about scheduling (`scheduler`).
Mirrors `Scheduler._mamba_block_aligned_split` of vLLM 0.32.0 without EAGLE and partial hits.
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import Engine
from kvatlas.jit import kernel


@kernel
def align_chunk(engine: Engine, row: int, new_tokens: int, num_hit_tokens: int) -> int:
    """Clip a prefill chunk so that it ends where a Mamba state is kept (`align` mode)."""
    requests = engine.requests
    block_size = engine.config.mamba_align_split
    start = int(requests[row].computed + num_hit_tokens)
    num_tokens = int(requests[row].num_tokens)
    prefill_end = max(int(requests[row].prompt), num_tokens - 1)
    if start >= prefill_end:
        return new_tokens
    last_cached = max((num_tokens - 1) // block_size * block_size, 0)
    end = start + new_tokens
    if end < prefill_end:
        limit = engine.config.max_num_batched_tokens
        if engine.config.long_prefill_token_threshold > 0:
            limit = min(limit, engine.config.long_prefill_token_threshold)
        aligned = end // block_size * block_size
        if aligned > start or block_size <= limit:
            end = aligned
    stop = end
    if start % block_size != 0:
        boundary = (start // block_size + 1) * block_size
        if start < boundary < end:
            stop = min(stop, boundary)
    if start < last_cached < end:
        stop = min(stop, last_cached)
    junction = int(requests[row].boundary)
    if start < junction < end:
        floored = start + (junction - start) // block_size * block_size
        if start < floored < end:
            stop = min(stop, floored)
    return max(stop - start, 0)
