"""The twin's manager, called as the recorded one was, with its log on.

Owns: the engine's rows for requests that hold blocks, and guarding the kernels, which check no
bounds, from what no engine would ask. Leaves to others: the rules (`kvatlas.engine.kernels`), what
a request has computed (`book`), comparing (`effects`).
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

from kvatlas.engine.build import make_engine, make_requests
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import FULL, NONE, NULL_BLOCK
from kvatlas.engine.verifying.book import Tracked
from kvatlas.engine.verifying.effects import NOTHING, Effects, of_log
from kvatlas.engine.verifying.seats import Seats
from kvatlas.engine.verifying.verdict import Difference, DifferenceFound
from kvatlas.errors import InvariantError
from kvatlas.events._log_kernel import make_log, take_chunk

__all__ = ["Twin"]

_NO_TABLES = np.empty((1, 0), np.int32)


class Twin:
    """One engine whose manager is called from outside.

    Memory: the pool's books, and keys and a block table for `max_num_seqs` requests of the longest
    length, of which the system hands out only what is written.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        seqs, block_size = config.max_num_seqs, config.resolved_hash_block_size
        keys_per_row = config.max_model_len // block_size + 1
        smallest = min(spec.block_size for spec in config.groups)
        table_blocks = (config.max_model_len + config.num_lookahead_tokens) // smallest + 2
        # One call touches, evicts, allocates, caches and frees each block of a table at most once.
        rows = 5 * len(config.groups) * table_blocks + 64
        self.engine = make_engine(
            config,
            make_requests(seqs + 1),
            np.zeros((seqs + 1) * keys_per_row, np.int64),
            block_size,
            config.max_model_len,
            log=make_log(rows, rows),
        )
        self._seats = Seats(self.engine, keys_per_row, block_size)
        # Views of the fields: reading one of a record takes NumPy a microsecond.
        self._lengths = self.engine.tables["length"]
        self._num_hits = self.engine.scratch["num_hits"]
        self._logged = self.engine.pool.log.info.base["used"]
        self._lookahead = config.num_lookahead_tokens
        self._watermark = int(self.engine.config.watermark_blocks)
        self._looked_up: tuple[int, int] | None = None
        self._popped: deque[list[int]] = deque()
        self._copies: Counter[tuple[int, int]] = Counter()
        self._plain = all(kind == FULL for kind in self.engine.groups["kind"].tolist())
        self._caching = bool(self.engine.pool.info.caching)

    @property
    def free_blocks(self) -> int:
        """Blocks in the free queue."""
        return int(self.engine.pool.info.free)

    @property
    def cached_keys(self) -> int:
        """Distinct (hash, group) pairs that are cached."""
        return len(self._copies)

    def lookup(self, request: Tracked) -> int:
        """Return the tokens of the longest cached prefix, the last token left to compute."""
        self._looked_up = None
        request.boundary = 0
        if not self._caching:
            return 0
        _require(
            request.num_tokens <= self.config.max_model_len,
            "tokens",
            f"{request.num_tokens:,}",
            f"at most {self.config.max_model_len:,} (max_model_len)",
        )
        row = self._seats.seat(request)
        hit, uncached = entries.lookup(self.engine, row, request.num_tokens - 1)
        request.boundary = int(hit + uncached) if uncached else 0
        self._looked_up = request.row, int(hit)
        return int(hit)

    def allocate(
        self, request: Tracked, new_tokens: int, hit_tokens: int, must_fit: bool, watermarked: bool,
        lookahead: int,
    ) -> tuple[bool, Effects]:  # fmt: skip
        """Make `allocate_slots` for a request; return whether it was served, and what it did."""
        engine, config = self.engine, self.config
        end = request.computed + hit_tokens + new_tokens
        _require(new_tokens >= 1 and hit_tokens >= 0, "new tokens", str(new_tokens), "at least 1")
        _require(
            max(end, request.num_tokens) <= config.max_model_len,
            "tokens", f"{end:,}", f"at most {config.max_model_len:,} (max_model_len)",
        )  # fmt: skip
        _require(
            0 <= lookahead <= config.num_lookahead_tokens,
            "lookahead", str(lookahead), f"at most {config.num_lookahead_tokens}",
        )  # fmt: skip
        waiting = not request.running
        row = self._seats.seat(request)
        if waiting:
            _require(
                int(engine.queue.free_slots) > 0,
                "running", "one more", f"{config.max_num_seqs} run (max_num_seqs)",
            )  # fmt: skip
        with_hits = False
        if waiting and self._looked_up == (request.row, hit_tokens):
            with_hits = bool((self._num_hits > 0).any())
        else:
            _require(hit_tokens == 0, "hit tokens", str(hit_tokens), "nothing was looked up")
        self._looked_up = None
        if lookahead != self._lookahead:
            self._lookahead = engine.config.num_lookahead_tokens = lookahead
        watermark = self._watermark if waiting and watermarked else 0
        before = self._tables(self._seats.slot(request))
        served = bool(
            entries.allocate_slots(
                engine, row, new_tokens, hit_tokens, with_hits, must_fit, watermark
            )
        )
        if served and waiting:
            self._seats.keep(row)
        return served, self._effects(self._seats.slot(request), before)

    def cache(self, request: Tracked, num_tokens: int) -> Effects:
        """Cache the blocks that the first `num_tokens` tokens fill."""
        if not self._caching:
            return NOTHING
        slot = self._seats.slot(request)
        if slot == NONE:
            raise DifferenceFound(Difference("caches", "blocks", "the request holds none"))
        lengths = self._lengths[:, slot].tolist()
        sizes = self.engine.groups["block_size"].tolist()
        held = min(length * size for length, size in zip(lengths, sizes, strict=True))
        _require(
            0 <= num_tokens <= held, "cached tokens", f"{num_tokens:,}", f"{held:,} have slots"
        )
        entries.cache_request(self.engine, self._seats.seat(request), num_tokens)
        return self._effects(slot, self.engine.table[:, slot])

    def free(self, request: Tracked) -> Effects:
        """Take all blocks from a request."""
        slot = self._seats.slot(request)
        if slot == NONE:
            return NOTHING
        entries.free(self.engine, self._seats.row(request))
        self._seats.leave(request)
        return self._effects(slot, self.engine.table[:, slot])

    def pop(self, request: Tracked) -> None:
        """Take a request's tables away; its blocks stay owned until `free_later`."""
        slot = self._seats.slot(request)
        if slot == NONE:
            return
        engine = self.engine
        blocks = [
            block
            for group, length in enumerate(self._lengths[:, slot].tolist())
            for block in engine.table[group, slot, :length].tolist()
            if block != NULL_BLOCK
        ]
        if blocks:
            self._popped.append(blocks[::-1])
        engine.free_slots[engine.queue.free_slots] = slot
        engine.queue.free_slots += 1
        self._seats.leave(request)

    def free_later(self, blocks: list[int]) -> Effects:
        """Free popped blocks, the oldest first; `blocks` says how many lists of them."""
        expected: list[int] = []
        while self._popped and len(expected) < len(blocks):
            expected += self._popped.popleft()
        pool = self.engine.pool
        pool.log.info.request = pool.log.info.group = NONE
        if expected:
            entries.free_blocks(pool, np.array(expected, np.int32))
        return self._effects(NONE, self.engine.table[:, 0])

    def evict(self, blocks: list[int]) -> Effects:
        """Drop the content of blocks."""
        pool = self.engine.pool
        pool.log.info.request = NONE
        for block in blocks:
            _require(0 < block < self.config.num_blocks, "evicted", str(block), "no such block")
            entries.evict(pool, block)
        return self._effects(NONE, self.engine.table[:, 0])

    def reset(self) -> bool:
        """Forget the whole prefix cache if no block is in use; say whether."""
        done = bool(entries.reset_prefix_cache(self.engine.pool))
        take_chunk(self.engine.pool.log)
        if done:
            self._copies.clear()
        return done

    def _tables(self, slot: int) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
        """Return the request's tables as they are before a call that may null their blocks."""
        if slot == NONE:
            return _NO_TABLES
        tables = self.engine.table[:, slot]
        if self._plain:
            return tables
        return tables[:, : int(self._lengths[:, slot].max())].copy()

    def _effects(
        self, slot: int, before: np.ndarray[tuple[int, int], np.dtype[np.int32]]
    ) -> Effects:
        """Take what the log tells of the last call; keep count of what is cached."""
        if self._logged[0] == 0:
            return NOTHING
        log = self.engine.pool.log
        if log.info.dropped:
            raise InvariantError("a call did more than the log has room for")
        found = of_log(take_chunk(log), self.engine.table[:, slot], before)
        for group, _, key in found.get("evicted", ()):
            self._copies[group, key] -= 1
            if self._copies[group, key] == 0:
                del self._copies[group, key]
        for group, _, key in found.get("cached", ()):
            self._copies[group, key] += 1
        return found


def _require(holds: bool, what: str, recorded: str, twin: str) -> None:
    """Stop where the recording asks for something that no engine with these settings would do."""
    if not holds:
        raise DifferenceFound(Difference(what, recorded, twin))
