"""Rows for live requests: an engine of fixed size that serves an endless stream of requests.

Owns: which request has which row of the engine's arrays, and keeping the two in step. Leaves to
others: everything the engine decides.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.block_hashing import BlockHasher
from kvatlas.engine.build import make_engine, make_requests
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.state import ABSENT, NONE, Engine
from kvatlas.engine.request import Request
from kvatlas.errors import InputError

_MOVES_PER_BLOCK = 4
"""Moves of a host tier that a step may ask for, per block of the device."""


class Rows:
    """The engine's rows and the requests in them.

    Memory: `max_num_requests` * max_model_len / hash_block_size keys of 8 bytes, of which the
    operating system hands out only what is written.
    """

    def __init__(self, config: EngineConfig, max_num_requests: int, secret: bytes | None) -> None:
        if config.host_blocks and config.host_bandwidth and config.swap == "auto":
            raise InputError(
                "what computing again takes is known in a replay only",
                field="swap",
                value=config.swap,
                remedy="use always or never, as kvatlas.tiers.SwapOrRecompute says for your device",
            )
        self.hasher = BlockHasher(config.resolved_hash_block_size, secret)
        self._keys_per_row = config.max_model_len // self.hasher.block_size + 1
        self.engine: Engine = make_engine(
            config,
            make_requests(max_num_requests),
            np.zeros(max_num_requests * self._keys_per_row, np.int64),
            self.hasher.block_size,
            config.max_model_len,
            num_moves=_MOVES_PER_BLOCK * config.num_blocks,
        )
        self.max_model_len = config.max_model_len
        self._free = list(range(max_num_requests - 1, -1, -1))
        self._row: dict[str, int] = {}
        self._request: dict[int, Request] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._row)

    def row(self, request: Request) -> int:
        """Return the request's row, giving it one on first sight, with its tokens up to date."""
        row = self._row.get(request.request_id)
        if row is None:
            row = self._admit(request)
        self.sync(request, row)
        return row

    def known(self, request_id: str) -> int | None:
        """Return the row of a known request."""
        return self._row.get(request_id)

    def request(self, row: int) -> Request:
        """Return the request in `row`."""
        return self._request[row]

    def sync(self, request: Request, row: int) -> None:
        """Write what the caller may have changed: tokens, their keys, computed tokens."""
        record = self.engine.requests[row]
        new = request.update_block_keys(self.hasher)
        if new:
            end = int(record.id_start) + len(request.block_keys)
            self.engine.ids[end - len(new) : end] = new
        record.num_tokens = request.num_tokens
        record.covered = len(request.block_keys) * self.hasher.block_size
        record.computed = request.num_computed_tokens
        record.preemptions = request.num_preemptions

    def release(self, request_id: str) -> None:
        """Give the row of a finished request back."""
        row = self._row.pop(request_id)
        del self._request[row]
        self.engine.requests[row].status = ABSENT
        self._free.append(row)

    def _admit(self, request: Request) -> int:
        if not self._free:
            raise InputError(
                "too many live requests",
                field="max_num_requests",
                value=len(self._row),
                remedy="wait for one to finish or give max_num_requests a larger value",
            )
        if request.num_prompt_tokens >= self.max_model_len:
            raise InputError(
                "the prompt leaves no room for an output token",
                field="prompt_token_ids",
                value=request.num_prompt_tokens,
                remedy=f"max_model_len is {self.max_model_len}",
            )
        row = self._free.pop()
        self._row[request.request_id], self._request[row] = row, request
        record = self.engine.requests[row]
        for name in record.dtype.names:
            setattr(record, name, 0)
        record.slot, record.status = NONE, ABSENT
        record.prompt, record.max_tokens = request.num_prompt_tokens, request.max_tokens
        record.encoder = request.num_encoder_tokens
        record.id_start = row * self._keys_per_row
        record.priority = (request.priority << 40) + self._arrivals
        self._arrivals += 1
        request.block_keys.clear()
        return row
