"""Requests of the real vLLM whose blocks hash the way our identities say.

Owns: tokens and block hashes with our identities' classes, in two ways: hashes made beforehand from
the chained identities, or tokens made from the raw identities, which vLLM's own sha256 hasher
chains (with cache salts as salts). Both must lead to the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Case
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request

from kvatlas.workload import Workload

_OUTPUT_TOKEN = 1 << 40  # plus the row: nobody else's token


class RealRequests:
    """Makes the real requests of a case, with hashes that have our identities' classes."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._sampled: dict[int, int] = {}
        hash_block = case.config.resolved_hash_block_size
        self._hash_block = hash_block
        init_none_hash(get_hash_fn_by_name("sha256"))
        self._sha256 = get_request_block_hasher(hash_block, get_hash_fn_by_name("sha256"))

    def make(self, row: int) -> Any:
        """Return the Request of `row`; without priorities it gets row % 3, as our twin does."""
        workload = self.case.workload
        precomputed = self.case.hashing == "precomputed"
        prompt = int(workload.prompt_tokens[row])
        hasher: Callable[[Any], list[bytes]] = self._sha256
        if precomputed:
            hasher = PreHasher(block_hashes(workload, self._hash_block, row), self._hash_block)
        tokens = [0] * prompt if precomputed else [self.token(row, i) for i in range(prompt)]
        priority = 0
        if self.case.config.policy == "priority":
            priority = int(workload.priority[row]) if workload.priority.any() else row % 3
        salt = int(workload.salt[row])
        return Request(
            request_id=str(row),
            prompt_token_ids=tokens,
            sampling_params=SamplingParams(
                max_tokens=int(workload.output_tokens[row]), ignore_eos=True
            ),
            pooling_params=None,
            arrival_time=float(row),  # arrival order, without ties
            cache_salt=f"salt {salt}" if salt and not precomputed else None,
            block_hasher=hasher,
            priority=priority,
        )

    def sample(self, row: int) -> int:
        """Return the next token that the model would sample for `row`."""
        position = self._sampled.get(row, int(self.case.workload.prompt_tokens[row]))
        self._sampled[row] = position + 1
        return self.token(row, position)

    def token(self, row: int, position: int) -> int:
        """Return the token at `position`: equal exactly where raw identities are equal."""
        workload = self.case.workload
        covered = int(workload.prompt_tokens[row]) if workload.prefix_known else 0
        if workload.outputs_identified:
            covered += int(workload.output_tokens[row])
        if position >= covered:
            return _OUTPUT_TOKEN + row
        span = workload.tokens_per_id
        raw = int(self.case.raw_ids[int(workload.id_offsets[row]) + position // span])
        return raw * span + position % span


class PreHasher:
    """A block hasher that hands out hashes made beforehand."""

    def __init__(self, hashes: list[bytes], hash_block: int) -> None:
        self._hashes, self._hash_block = hashes, hash_block

    def __call__(self, request: Any) -> list[bytes]:
        """Return the hashes of the request's blocks that became full since the last call."""
        return self._hashes[len(request.block_hashes) : request.num_tokens // self._hash_block]


def block_hashes(workload: Workload, hash_block: int, row: int) -> list[bytes]:
    """Return the hash of every full hash block of `row`, derived from the chained identities."""
    prompt, output = int(workload.prompt_tokens[row]), int(workload.output_tokens[row])
    covered = prompt if workload.prefix_known else 0
    covered += output if workload.outputs_identified else 0
    span, first = workload.tokens_per_id, int(workload.id_offsets[row])
    words = np.zeros(((prompt + output) // hash_block, 4), "<u8")
    for block in range(words.shape[0]):
        end = (block + 1) * hash_block
        if end <= covered:
            at, within = divmod(end - 1, span)
            words[block] = (1, int(workload.ids[first + at]), within // hash_block, 0)
        else:
            words[block] = (2, row, block, 0)
    return [line.tobytes() for line in words]
