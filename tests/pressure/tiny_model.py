"""A model whose every token depends on all earlier keys and values, as read from the storage.

What it writes for a position is a number made of the whole prefix, and the next token is made of
the last of them, so that one block lost, mixed up or left uncomputed changes what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import KVCacheManager, Request
from kvatlas.pressure import OOMHandler
from kvatlas.storage import KVCacheMemoryPool

_START, _MODULUS = 7, 1_000_003  # exact in float32


def states(tokens: Sequence[int]) -> list[int]:
    """Return what the model writes for each position."""
    state, found = _START, []
    for token in tokens:
        state = _next(state, token)
        found.append(state)
    return found


def _next(state: int, token: int) -> int:
    return (state * 31 + token + 1) % _MODULUS


def answer(prompt: Sequence[int], length: int) -> list[int]:
    """Return the tokens that come out when nothing ever happens to memory."""
    state, tokens = states(prompt)[-1], []
    for _ in range(length):
        tokens.append(state % 50)
        state = _next(state, tokens[-1])
    return tokens


def make_storage(num_blocks: int, block_size: int) -> KVCacheMemoryPool:
    """Return one layer of one head of one number."""
    return KVCacheMemoryPool(
        num_blocks, num_layers=1, block_size=block_size, kv_heads=1, head_size=1
    )


class PlainSwap:
    """The smallest tier that can be: a dict of blocks, first in first out."""

    def __init__(self, storage: KVCacheMemoryPool, room: int) -> None:
        self.storage, self.room = storage, room
        self.kept: dict[int, NDArray[np.uint8]] = {}

    def swap_out(self, keys: Sequence[int], block_ids: Sequence[int]) -> int:
        for key, block in zip(keys, block_ids, strict=True):
            self.kept.pop(key, None)
            self.kept[key] = np.array(self.storage.gather([block]), copy=True)
            while len(self.kept) > self.room:
                del self.kept[next(iter(self.kept))]
        return sum(key in self.kept for key in keys)

    def lookup(self, keys: Sequence[int]) -> int:
        count = 0
        while count < len(keys) and keys[count] in self.kept:
            count += 1
        return count

    def swap_in(self, keys: Sequence[int], block_ids: Sequence[int]) -> None:
        for key, block in zip(keys, block_ids, strict=True):
            self.storage.scatter([block], self.kept[key])

    def clear(self) -> None:
        self.kept.clear()


class Engine:
    """A loop around the ladder: one step at a time, with every byte looked at."""

    def __init__(
        self,
        manager: KVCacheManager,
        handler: OOMHandler,
        storage: KVCacheMemoryPool,
        *,
        budget: int = 16,
        contiguous: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        self.manager, self.handler, self.storage = manager, handler, storage
        self.budget, self.contiguous = budget, contiguous
        self.waiting: list[Request] = []
        self.finished: list[Request] = []
        self.steps = 0

    def step(self) -> int:
        """Run one step; return the tokens computed."""
        handler, budget = self.handler, self.budget
        handler.new_step()
        self.steps += 1
        planned: dict[str, int] = {}
        for request in handler.running:
            if request in handler.running and budget > 0:
                tokens = min(request.num_tokens - request.num_computed_tokens, budget)
                if handler.grow(request, tokens, contiguous=self.contiguous(request)) is not None:
                    planned[request.request_id] = tokens
                    budget -= tokens
                for victim in handler.take_preempted():
                    budget += planned.pop(victim.request_id, 0)
                    self.waiting.append(victim)
        for request in handler.order(self.waiting):
            if budget <= 0:
                break
            given = handler.admit(request, budget, contiguous=self.contiguous(request))
            if given is not None:
                self.waiting.remove(request)
                planned[request.request_id] = given.new_tokens
                budget -= given.new_tokens
        running = {request.request_id: request for request in handler.running}
        for name, tokens in planned.items():
            self._compute(running[name], tokens)
        handler.check()
        return sum(planned.values())

    def _compute(self, request: Request, tokens: int) -> None:
        """Read all earlier positions, write the new ones, sample at the end."""
        table = np.array(self.manager.get_block_ids(request.request_id)[0])
        slots = self.storage.key(0)[:, :, 0, 0]
        start, stop = request.num_computed_tokens, request.num_computed_tokens + tokens
        expected = states(request.all_token_ids[:stop])
        at = np.arange(stop)
        places = table[at // slots.shape[1]], at % slots.shape[1]
        found = slots[places][:start]
        assert found.tolist() == expected[:start], f"{request.request_id} reads {found}"
        slots[places[0][start:], places[1][start:]] = expected[start:]
        request.num_computed_tokens = stop
        if stop == request.num_tokens:
            request.append_output_token_ids(expected[-1] % 50)
            if len(request.output_token_ids) == request.max_tokens:
                self.handler.finish(request)
                self.finished.append(request)
