"""`KVCacheManager`: block tables and prefix cache for an engine that schedules by itself.

Owns: a thin face, under vLLM's names, over the manager's kernels. Leaves to others: when to call it
(your scheduler, or `scheduling.Scheduler`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.engine.check import check_engine
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import NONE, RUNNING, WAITING, Engine
from kvatlas.engine.live_rows import Rows
from kvatlas.engine.request import Request
from kvatlas.engine.specs import CrossAttentionSpec
from kvatlas.errors import InputError


@dataclass(frozen=True)
class KVCacheBlocks:
    """Block ids per KV cache group; block 0 stands where a group needs nothing."""

    blocks: tuple[tuple[int, ...], ...]

    def get_block_ids(self) -> tuple[list[int], ...]:
        """The ids as lists, one per group."""
        return tuple(list(group) for group in self.blocks)


class KVCacheManager:
    """Who holds which blocks, and what can be hit: vLLM's KVCacheManager, decision for decision.

    Args:
        config: pool, groups and rules; `max_num_seqs` bounds how many requests hold blocks at once.
        max_num_requests: requests known at once.
        secret: key of the block hash (`BlockHasher`).
    """

    def __init__(
        self, config: EngineConfig, *, max_num_requests: int = 4096, secret: bytes | None = None
    ) -> None:
        if config.host_blocks:
            raise InputError(
                "the host tier below an engine is the scheduler's",
                field="host_blocks",
                value=config.host_blocks,
                remedy="use Scheduler, or a kvatlas.tiers.SwapManager beside this manager",
            )
        if config.under_pressure:
            raise InputError(
                "the policies under pressure are the scheduler's",
                field="config",
                remedy="use Scheduler, or kvatlas.pressure beside your own",
            )
        self.config = config
        self._rows = Rows(config, max_num_requests, secret)
        self._engine = self._rows.engine
        self._watermark_blocks = int(config.watermark * config.num_blocks)

    @property
    def state(self) -> Engine:
        """The engine behind this face: look, don't touch."""
        return self._engine

    @property
    def usage(self) -> float:
        """Share of the blocks in use, 0 to 1."""
        return 1.0 - self.get_num_free_blocks() / (self.config.num_blocks - 1)

    def get_num_free_blocks(self) -> int:
        """Blocks in the free queue, evictable ones included."""
        return int(self._engine.pool.info.free)

    def get_computed_blocks(self, request: Request) -> tuple[KVCacheBlocks, int]:
        """Return the cached blocks of the request's longest cached prefix and its tokens.

        At least the last token is left to compute. O(hits).
        """
        if not self.config.enable_prefix_caching:
            return self._empty(), 0
        row = self._rows.row(request)
        hit, uncached = entries.lookup(self._engine, row, request.num_tokens - 1)
        self._engine.requests[row].boundary = hit + uncached if uncached else 0
        counts = self._engine.scratch["num_hits"].tolist()
        blocks = tuple(
            tuple(self._engine.hits[group, :count].tolist()) for group, count in enumerate(counts)
        )
        return KVCacheBlocks(blocks), int(hit)

    def allocate_slots(
        self,
        request: Request,
        num_new_tokens: int,
        num_new_computed_tokens: int = 0,
        new_computed_blocks: KVCacheBlocks | None = None,
        *,
        full_sequence_must_fit: bool = False,
        has_scheduled_reqs: bool = False,
    ) -> KVCacheBlocks | None:
        """Give the request slots for `num_new_tokens`; return the new blocks, None if it must wait.

        The tokens counted are those beyond `request.num_computed_tokens` and the hits. Set
        `num_computed_tokens` yourself after the step, as vLLM's scheduler does. With
        `has_scheduled_reqs` a waiting request leaves the watermark free. O(blocks touched).
        """
        if num_new_tokens < 1:
            raise InputError("must be at least 1", field="num_new_tokens", value=num_new_tokens)
        end = request.num_computed_tokens + num_new_computed_tokens + num_new_tokens
        if end > self.config.max_model_len:
            raise InputError(
                "the tokens end beyond max_model_len",
                field="num_new_tokens",
                value=num_new_tokens,
                remedy=f"max_model_len is {self.config.max_model_len}",
            )
        row = self._rows.row(request)
        engine = self._engine
        record = engine.requests[row]
        waiting = int(record.status) != RUNNING
        if waiting and int(engine.queue.free_slots) == 0:
            return None
        with_hits = new_computed_blocks is not None and any(new_computed_blocks.blocks)
        if with_hits and new_computed_blocks is not None:
            for group, ids in enumerate(new_computed_blocks.blocks):
                engine.hits[group, : len(ids)] = ids
                engine.scratch[group].num_hits = len(ids)
        slot = int(record.slot)
        before = [0] * len(self.config.groups)
        if slot != NONE:
            before = engine.tables["length"][:, slot].tolist()
        elif with_hits and new_computed_blocks is not None:
            before = [len(ids) for ids in new_computed_blocks.blocks]
        watermark = self._watermark_blocks if waiting and has_scheduled_reqs else 0
        served = entries.allocate_slots(
            engine,
            row,
            num_new_tokens,
            num_new_computed_tokens,
            with_hits,
            full_sequence_must_fit,
            watermark,
        )
        if not served:
            return None
        record.status = RUNNING
        return self._tables(int(record.slot), before)

    def cache_blocks(self, request: Request, num_computed_tokens: int) -> None:
        """Cache the blocks that the first `num_computed_tokens` tokens fill."""
        row = self._rows.row(request)
        slot = int(self._engine.requests[row].slot)
        held = 0 if slot == NONE else self._held_tokens(slot)
        if not 0 <= num_computed_tokens <= min(held, request.num_tokens):
            raise InputError(
                "more tokens than the request has slots for",
                field="num_computed_tokens",
                value=num_computed_tokens,
                remedy="allocate_slots comes first",
            )
        if self.config.enable_prefix_caching:
            entries.cache_request(self._engine, row, num_computed_tokens)

    def free(self, request: Request) -> None:
        """Take all blocks from the request, last block first, and forget it. O(blocks)."""
        row = self._rows.known(request.request_id)
        if row is not None:
            entries.free(self._engine, row)
            self._engine.requests[row].status = WAITING
            self._rows.release(request.request_id)

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...]:
        """Return the request's block tables, one per group; empty if it holds nothing."""
        row = self._rows.known(request_id)
        slot = NONE if row is None else int(self._engine.requests[row].slot)
        if slot == NONE:
            return tuple([] for _ in self.config.groups)
        return self._tables(slot, [0] * len(self.config.groups)).get_block_ids()

    def new_step_starts(self) -> None:
        """Say that a scheduler step begins (Mamba groups defer hits on states of this step)."""
        entries.new_step_starts(self._engine)

    def reset_prefix_cache(self) -> bool:
        """Forget all cached content; False while a block is in use."""
        return bool(entries.reset_prefix_cache(self._engine.pool))

    def check(self) -> None:
        """Check every invariant. O(blocks + requests). Raises InvariantError."""
        check_engine(self._engine)

    def _held_tokens(self, slot: int) -> int:
        """Tokens that every group has slots for (cross attention holds encoder tokens)."""
        lengths = self._engine.tables["length"][:, slot].tolist()
        return min(
            (
                length * spec.block_size
                for length, spec in zip(lengths, self.config.groups, strict=True)
                if not isinstance(spec, CrossAttentionSpec)
            ),
            default=0,
        )

    def _empty(self) -> KVCacheBlocks:
        return KVCacheBlocks(tuple(() for _ in self.config.groups))

    def _tables(self, slot: int, start: list[int]) -> KVCacheBlocks:
        engine = self._engine
        lengths = engine.tables["length"][:, slot].tolist()
        return KVCacheBlocks(
            tuple(
                tuple(engine.table[group, slot, first:length].tolist())
                for group, (first, length) in enumerate(zip(start, lengths, strict=True))
            )
        )
