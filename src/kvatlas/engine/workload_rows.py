"""From a workload's columns to the engine's rows, and which of them can never be served.

Owns: lengths, priorities and key ranges of the rows. Leaves to others: running them (`replay`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.build import make_requests
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.state import I64
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.records import Records
from kvatlas.workload.model import Workload


def lay_out(workload: Workload, config: EngineConfig) -> Records:
    """Return the request rows of `workload`: lengths, priorities, and where their keys come from.

    Under the priority policy a trace without priorities gets row % 3, as the recorded reference.
    """
    num_rows = workload.num_requests
    hash_block = config.resolved_hash_block_size
    requests = make_requests(num_rows)
    requests["prompt"][:] = workload.prompt_tokens
    requests["max_tokens"][:] = workload.output_tokens
    requests["num_tokens"][:] = workload.prompt_tokens
    rows = np.arange(num_rows, dtype=np.int64)
    classes = workload.priority.astype(np.int64)
    if config.policy == "priority" and not classes.any():
        classes = rows % 3
    requests["priority"][:] = (classes - classes.min(initial=0)) * max(1, num_rows) + rows
    total = workload.prompt_tokens.astype(np.int64) + workload.output_tokens
    covered = np.zeros(num_rows, np.int64)
    shared_keys = 0
    if workload.prefix_known:
        per_id = workload.tokens_per_id
        if config.enable_prefix_caching and per_id % hash_block and hash_block % per_id:
            raise InputError(
                f"block size does not divide the trace's {per_id} tokens per identity",
                file=workload.source,
                field="block_size",
                value=hash_block,
                remedy=f"use a divisor or a multiple of {per_id}",
            )
        covered = total if workload.outputs_identified else workload.prompt_tokens.astype(np.int64)
        requests["id_start"][:] = workload.id_offsets[:-1]
        shared_keys = workload.num_ids * max(1, per_id // hash_block)
    requests["covered"][:] = covered
    unique = total // hash_block - covered // hash_block + 1
    requests["unique_start"][:] = shared_keys + np.cumsum(unique) - unique
    return requests


def count_keys(requests: Records, config: EngineConfig) -> int:
    """Return a number that all keys of these rows are below. O(N)."""
    if not requests.shape[0]:
        return 0
    total = requests["prompt"] + requests["max_tokens"]
    unique = total // config.resolved_hash_block_size - requests["covered"] // (
        config.resolved_hash_block_size
    )
    return int((requests["unique_start"] + unique + 1).max())


def blocks_needed(workload: Workload, config: EngineConfig) -> I64:
    """Return (N,) the blocks that each request holds at its end, shared ones included; O(N).

    Prompt and all output but the last token, which is never computed, within max_model_len. On the
    way a request may need more, by how its prompt is cut into chunks and what is hit; no less.
    """
    prompt = workload.prompt_tokens.astype(np.int64)
    computed = np.minimum(prompt + workload.output_tokens, config.max_model_len) - 1
    tokens = np.minimum(computed + config.num_lookahead_tokens, config.max_model_len)
    blocks = np.zeros(workload.num_requests, np.int64)
    for spec in config.groups:
        blocks += _held_blocks(spec, tokens, computed - 1)
    return blocks


def _held_blocks(spec: KVCacheSpec, tokens: I64, computed: I64) -> I64:
    """Return the blocks that hold `tokens` tokens, without those skipped after `computed`."""
    skipped: I64 = np.zeros_like(tokens)
    match spec:
        case CrossAttentionSpec():
            return skipped
        case MambaSpec(mamba_cache_mode="align"):
            return np.ones_like(tokens)
        case MambaSpec():
            skipped = np.maximum(computed - 1, 0)
        case SlidingWindowSpec(sliding_window=window):
            skipped = np.maximum(computed - window + 1, 0)
        case ChunkedLocalAttentionSpec(attention_chunk_size=chunk):
            skipped = computed // chunk * chunk
    return -(-tokens // spec.block_size) - skipped // spec.block_size


def never_fits(workload: Workload, config: EngineConfig) -> NDArray[np.bool_]:
    """Return (N,) True where a request could not be served by an otherwise empty pool.

    Its prompt leaves no room for one output token within max_model_len, or it holds more blocks at
    its end than the pool has. Others may turn out to block an empty pool on the way: the driver
    sees that when it happens.
    """
    too_long = workload.prompt_tokens >= config.max_model_len
    return too_long | (blocks_needed(workload, config) > config.num_blocks - 1)
