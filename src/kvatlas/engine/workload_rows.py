"""From a workload's columns to the engine's rows, and which of them can never be served.

Owns: lengths, priorities and key ranges of the rows. Leaves to others: running them (`replay`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.build import make_requests
from kvatlas.engine.kernels.state import I64, Records
from kvatlas.engine.specs import CrossAttentionSpec, EngineConfig
from kvatlas.errors import InputError
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


def blocks_needed(workload: Workload, config: EngineConfig) -> I64:
    """Return (N,) the blocks that each request holds at its end, shared ones included; O(N).

    Prompt and all output but the last token, which is never computed, within max_model_len.
    """
    prompt = workload.prompt_tokens.astype(np.int64)
    total = np.minimum(prompt + workload.output_tokens, config.max_model_len) - 1
    tokens = np.minimum(total + config.num_lookahead_tokens, config.max_model_len)
    blocks = np.zeros(workload.num_requests, np.int64)
    for spec in config.groups:
        if isinstance(spec, CrossAttentionSpec):
            continue
        cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
        need = -(-tokens // spec.block_size)
        blocks += need if cap is None else np.minimum(need, cap)
    return blocks


def never_fits(workload: Workload, config: EngineConfig) -> NDArray[np.bool_]:
    """Return (N,) True where a request could not be served by an otherwise empty pool.

    Its prompt leaves no room for one output token within max_model_len, or it needs more blocks
    than the pool has.
    """
    too_long = workload.prompt_tokens >= config.max_model_len
    return too_long | (blocks_needed(workload, config) > config.num_blocks - 1)
