"""A serving loop around the paged Llama: our scheduler decides, the model computes, tokens return.

Owns: turning a scheduler's output into chunks, and sampled tokens back. Leaves to others: every
decision (`kvatlas.engine.Scheduler`), the pass (`model`), the bytes (`kvatlas.storage`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kvatlas.engine import EngineConfig, FullAttentionSpec, Request, Scheduler, SchedulerOutput
from kvatlas.errors import InputError
from kvatlas.llama.attention import PagedStorage
from kvatlas.llama.batch import PagedChunk
from kvatlas.llama.lazy_torch import torch
from kvatlas.llama.model import PagedLlama
from kvatlas.llama.shape import LlamaShape
from kvatlas.llama.swapping import Swap, Swapping

Sampler: TypeAlias = "Callable[[Sequence[Request], torch.Tensor], list[int]]"


def greedy(requests: Sequence[Request], logits: torch.Tensor) -> list[int]:
    """Return the likeliest token of each request; logits are [requests, vocab_size]."""
    del requests
    tokens: list[int] = logits.argmax(-1).tolist()
    return tokens


@dataclass(frozen=True)
class _Work:
    """A step that is scheduled and not run: who computes which positions in which blocks.

    `lost` is what its allocations evict, (keys, blocks): the bytes are there until it is run.
    """

    output: SchedulerOutput
    spans: tuple[tuple[Request, int, int], ...]
    lost: tuple[list[int], list[int]]


class LlamaEngine:
    """Serves requests with continuous batching; memory is the pool's and nothing else.

    Between two `step()` calls the bytes of the pool may be moved, swapped or copied by anyone who
    keeps the block tables of `scheduler` right, except for `in_flight_blocks()`.

    Args:
        model: computes.
        storage: holds keys and values, `config.num_blocks` blocks of `config.block_size` tokens.
        config: one group of full attention; with priorities and prefix caching it must set
            `forget_uncomputed`, or hits may read what nobody has written.
        swap: a tier below the pool, with copies of blocks that were evicted.
        secret: key of the block hash; random when left out.
        sample: requests and their logits [requests, vocab_size] -> one token each.

    Raises:
        InputError: the pool does not fit the configuration or the model.
    """

    def __init__(
        self,
        model: PagedLlama,
        storage: PagedStorage,
        config: EngineConfig,
        *,
        swap: Swap | None = None,
        secret: bytes | None = None,
        sample: Sampler = greedy,
    ) -> None:
        _check(model.shape, storage, config)
        self.model, self.storage, self.config = model, storage, config
        self.scheduler = Scheduler(config, secret=secret)
        self._swapping = None
        if swap is not None:
            self._swapping = Swapping(swap, self.scheduler, storage.block_size)
        self._sample = sample
        self._requests: dict[str, Request] = {}
        self._ahead: deque[_Work] = deque()

    def add_request(self, request: Request) -> None:
        """Let a request wait.

        Raises:
            InputError: also when the pool could not hold it even alone.
        """
        tokens = min(request.num_prompt_tokens + request.max_tokens, self.config.max_model_len)
        if -(-tokens // self.storage.block_size) >= self.storage.num_blocks:
            raise InputError(
                "the request can never fit into the pool",
                field="max_tokens",
                value=request.max_tokens,
                remedy=f"the pool holds {self.storage.num_blocks - 1} blocks of "
                f"{self.storage.block_size} tokens",
            )
        self.scheduler.add_request(request)
        self._requests[request.request_id] = request

    def abort(self, request_id: str) -> None:
        """Finish a request now; its tokens so far stay with it. Unknown ids are ignored."""
        self.scheduler.abort(request_id)
        self._requests.pop(request_id, None)

    def step(self) -> list[Request]:
        """Schedule and compute one step; return the requests that finished in it.

        With `async_scheduling` one step is scheduled ahead of the one that is computed.
        """
        while len(self._ahead) <= int(self.config.async_scheduling):
            self._ahead.append(self._schedule())
        work = self._ahead.popleft()
        finished = self.scheduler.update_from_output(work.output, self._compute(work))
        for request in finished:
            del self._requests[request.request_id]
        return finished

    def run(self) -> list[Request]:
        """Step until every request has finished; return them in the order they did."""
        finished: list[Request] = []
        while self.scheduler.has_requests():
            finished += self.step()
        return finished

    def generate(self, requests: Iterable[Request]) -> dict[str, list[int]]:
        """Add the requests, run, and return the output tokens of each."""
        for request in requests:
            self.add_request(request)
        return {request.request_id: request.output_token_ids for request in self.run()}

    def in_flight_blocks(self) -> set[int]:
        """Return the blocks that a scheduled step will read or write: they must stay in place.

        Empty between steps unless `async_scheduling` schedules ahead.
        """
        return {
            block
            for work in self._ahead
            for tables in work.output.block_tables.values()
            for block in tables[0]
        }

    @property
    def restored_tokens(self) -> int:
        """Tokens that came back from the tier instead of being computed, so far."""
        return self._swapping.restored * self.storage.block_size if self._swapping else 0

    def _schedule(self) -> _Work:
        swapping = self._swapping
        before = swapping.contents() if swapping else None
        output = self.scheduler.schedule()
        lost = swapping.lost(before) if swapping and before is not None else ([], [])
        spans = []
        for name, tokens in output.num_scheduled_tokens.items():
            request = self._requests[name]
            end = request.num_computed_tokens  # advanced when it was scheduled, as in vLLM
            spans.append((request, end - tokens, end))
        return _Work(output, tuple(spans), lost)

    def _compute(self, work: _Work) -> dict[str, int]:
        """Run a step, whoever has left since: what it fills may be cached already."""
        if self._swapping:
            self._swapping.save(work.lost)
        sampling, runs = set(work.output.sampling), []
        for request, start, end in work.spans:
            table = work.output.block_tables[request.request_id][0]
            if self._swapping:
                sampled = request.request_id in sampling
                start = self._swapping.restore(request, start, end, table, sampling=sampled)
            # None left: all restored, or aborted while the token to compute was being sampled.
            if tokens := request.all_token_ids[start:end]:
                runs.append((request, PagedChunk(tokens, start, table)))
        if not runs:
            return {}
        logits = self.model.forward([chunk for _, chunk in runs], self.storage)
        rows = [at for at, (request, _) in enumerate(runs) if request.request_id in sampling]
        if not rows:
            return {}
        requests = [runs[row][0] for row in rows]
        tokens = self._sample(requests, logits[rows])
        return {r.request_id: token for r, token in zip(requests, tokens, strict=True)}


def _check(shape: LlamaShape, storage: PagedStorage, config: EngineConfig) -> None:
    if len(config.groups) != 1 or type(config.groups[0]) is not FullAttentionSpec:
        raise InputError(
            "the paged Llama has one group of full attention",
            field="kv_cache_groups",
            value=[type(group).__name__ for group in config.groups],
        )
    if (
        config.policy == "priority"
        and config.enable_prefix_caching
        and not config.forget_uncomputed
    ):
        raise InputError(
            "under priorities vLLM's rule may serve hits on blocks that nobody has computed",
            field="forget_uncomputed",
            value=False,
            remedy="set forget_uncomputed=True",
        )
    if storage.num_blocks != config.num_blocks or storage.block_size != config.groups[0].block_size:
        raise InputError(
            "the pool and the configuration must agree",
            field="storage",
            value=f"{storage.num_blocks} blocks of {storage.block_size} tokens",
            remedy=f"make {config.num_blocks} blocks of {config.groups[0].block_size} tokens",
        )
    sizes = tuple(storage.key(0).shape[2:])
    if storage.num_layers != shape.num_layers or sizes != (shape.num_kv_heads, shape.head_size):
        raise InputError(
            "the pool and the model must agree",
            field="storage",
            value=f"{storage.num_layers} layers of {sizes[0]} heads of {sizes[1]}",
            remedy=f"make {shape.num_layers} layers of {shape.num_kv_heads} heads of "
            f"{shape.head_size}",
        )
