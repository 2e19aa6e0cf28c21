"""`BlockManager`: nano-vLLM's block manager under its own names, fit to take its place.

Owns: the face over the pool: sequences in, block tables out, and from a block's tokens to its key.
Leaves to others: the rules on the pool (`blocks`). Mirrors nanovllm/engine/block_manager.py at
bb823b3 (see `config`); a step is can_allocate, allocate or can_append, may_append, then
hash_blocks and counting the computed tokens, as in nano-vLLM's scheduler.
"""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import numpy as np

from kvatlas.engine.kernels.state import I32, I64, NONE, Pool
from kvatlas.engine.nano import blocks
from kvatlas.engine.nano.build import make_nano_pool
from kvatlas.engine.nano.check import check_nano_pool, free_block_ids
from kvatlas.engine.nano.sequence import SequenceLike
from kvatlas.errors import InputError, InvariantError
from kvatlas.jit import entry

_KEY_BITS = (1 << 63) - 1
_NO_HITS = np.empty(0, np.int32)


@entry
def _find_run(pool: Pool, keys: I64, hits: I32) -> int:
    return blocks.find_run(pool, keys, keys.shape[0], hits, 0)


@entry
def _num_owned(pool: Pool, hits: I32) -> int:
    return blocks.num_owned(pool, hits, hits.shape[0])


@entry
def _take(pool: Pool, hits: I32, table: I32) -> None:
    blocks.take(pool, hits, hits.shape[0], table.shape[0], table, 0)


@entry
def _release(pool: Pool, table: I32) -> None:
    blocks.release(pool, table, table.shape[0])


@entry
def _publish(pool: Pool, keys: I64, table: I32) -> None:
    for i in range(keys.shape[0]):
        blocks.publish(pool, keys[i], table, i)


class BlockManager:
    """Blocks for sequences, with prefix caching; every operation O(blocks of the sequence).

    A full block's key is a 63-bit BLAKE2b hash of the key before it and its tokens; on a hit the
    tokens are compared, as in nano-vLLM (which hashes with xxh64). A block's hash is computed once
    per sequence: tokens may be appended, never changed.

    Args:
        num_blocks: blocks in the pool, ids 0 to num_blocks - 1.
        block_size: tokens per block.

    Raises:
        InputError: fewer than 1 block, or blocks of fewer than 2 tokens.
    """

    def __init__(self, num_blocks: int, block_size: int = 256) -> None:
        if num_blocks < 1:
            raise InputError("must be at least 1", field="num_blocks", value=num_blocks)
        if block_size < 2:
            raise InputError("must be at least 2", field="block_size", value=block_size)
        self.num_blocks, self.block_size = num_blocks, block_size
        self._pool = make_nano_pool(num_blocks)
        self._content: list[bytes | None] = [None] * num_blocks
        self._keys: WeakKeyDictionary[SequenceLike, list[int]] = WeakKeyDictionary()
        self._holders: dict[int, SequenceLike] = {}

    @property
    def free_block_ids(self) -> list[int]:
        """Free blocks, the next to be allocated first; O(free)."""
        return free_block_ids(self._pool)

    @property
    def used_block_ids(self) -> set[int]:
        """Blocks that some sequence holds; O(num_blocks)."""
        return set(np.flatnonzero(self._pool.blocks["ref_count"][: self.num_blocks]).tolist())

    @property
    def num_free_blocks(self) -> int:
        """How many blocks are free, with or without cached content; O(1)."""
        return int(self._pool.info.free)

    @property
    def num_cached_blocks(self) -> int:
        """How many blocks a lookup can find; O(1)."""
        return int(self._pool.info.cached)

    def ref_count(self, block_id: int) -> int:
        """Return how many sequences hold the block; O(1)."""
        return int(self._pool.blocks["ref_count"][block_id])

    def can_allocate(self, seq: SequenceLike) -> int:
        """Return how many leading blocks of `seq` are cached, or -1 when too few blocks are free.

        The last block is never looked up, so that at least one token is computed. Changes nothing.
        """
        wanted = self._num_blocks(seq)
        hits = self._find(seq, wanted - 1)
        return hits.size if self._suffices(wanted, hits) else -1

    def allocate(self, seq: SequenceLike, num_cached_blocks: int) -> None:
        """Fill `seq.block_table`: `num_cached_blocks` hits, as `can_allocate` said, then new ones.

        Raises:
            InputError: `seq` holds blocks already, or the pool cannot serve this (any more).
        """
        if seq.block_table:
            raise InputError("the sequence holds blocks already", field="seq")
        wanted = self._num_blocks(seq)
        hits = self._find(seq, min(wanted - 1, num_cached_blocks))
        if hits.size != num_cached_blocks or not self._suffices(wanted, hits):
            raise InputError(
                "the pool cannot serve this any more",
                field="num_cached_blocks",
                value=num_cached_blocks,
                remedy="pass what can_allocate answered last, unless it was -1",
            )
        table = np.empty(wanted, np.int32)
        _take(self._pool, hits, table)
        seq.block_table.extend(table.tolist())
        seq.num_cached_tokens = hits.size * self.block_size
        self._holders[id(seq)] = seq

    def deallocate(self, seq: SequenceLike) -> None:
        """Take all blocks from `seq`; those that nobody else holds are free, the last one first."""
        _release(self._pool, np.array(seq.block_table, np.int32))
        seq.num_cached_tokens = 0
        seq.block_table.clear()
        self._holders.pop(id(seq), None)

    def can_append(self, seq: SequenceLike) -> bool:
        """Return whether the last token of `seq` has or can get a place; O(1)."""
        return seq.num_tokens % self.block_size != 1 or int(self._pool.info.free) >= 1

    def may_append(self, seq: SequenceLike) -> None:
        """Give `seq` one more block when its last token is the first of a block; O(1).

        Raises:
            InputError: no block is free; ask `can_append` first.
        """
        if seq.num_tokens % self.block_size != 1:
            return
        if int(self._pool.info.free) < 1:
            raise InputError("no block is free", field="seq", remedy="ask can_append first")
        table = np.empty(1, np.int32)
        _take(self._pool, _NO_HITS, table)
        seq.block_table.append(int(table[0]))

    def hash_blocks(self, seq: SequenceLike) -> None:
        """Publish the blocks that this step's `num_scheduled_tokens` complete: others may hit."""
        first = seq.num_cached_tokens // self.block_size
        stop = (seq.num_cached_tokens + seq.num_scheduled_tokens) // self.block_size
        if first == stop:
            return
        keys = self._keys_of(seq, stop)
        table = seq.block_table[first:stop]
        for i, block in enumerate(table, start=first):
            self._content[block] = _as_bytes(seq, i)
        _publish(self._pool, np.array(keys[first:stop], np.int64), np.array(table, np.int32))

    def check(self) -> None:
        """Check queue, index and ref counts against each other and the block tables; O(num_blocks).

        Raises:
            InvariantError: names the first promise that is broken.
        """
        check_nano_pool(self._pool)
        owners = [0] * self.num_blocks
        for seq in self._holders.values():
            if len(seq.block_table) < self._num_blocks(seq) - 1:
                raise InvariantError("a sequence lacks blocks")
            for block in seq.block_table:
                owners[block] += 1
        if owners != self._pool.blocks["ref_count"][: self.num_blocks].tolist():
            raise InvariantError("ref counts and block tables differ")

    def _num_blocks(self, seq: SequenceLike) -> int:
        return -(-seq.num_tokens // self.block_size)

    def _suffices(self, wanted: int, hits: I32) -> bool:
        """Return whether the free blocks can make up a table of `wanted` blocks with `hits`."""
        free = self.num_free_blocks
        return free >= wanted or free >= wanted - int(_num_owned(self._pool, hits))

    def _find(self, seq: SequenceLike, known: int) -> I32:
        """Return the cached blocks of the leading `known` blocks of `seq`, tokens compared."""
        if known < 1:
            return _NO_HITS
        hits = np.empty(known, np.int32)
        found = _find_run(self._pool, np.array(self._keys_of(seq, known)[:known], np.int64), hits)
        for i in range(found):
            if self._content[hits[i]] != _as_bytes(seq, i):
                return hits[:i]
        return hits[:found]

    def _keys_of(self, seq: SequenceLike, count: int) -> list[int]:
        """Return the keys of at least the first `count` blocks of `seq`, all full."""
        keys = self._keys.setdefault(seq, [])
        while len(keys) < count:
            before = keys[-1] if keys else NONE
            content = _as_bytes(seq, len(keys))
            digest = hashlib.blake2b(
                before.to_bytes(8, "little", signed=True) + content, digest_size=8
            ).digest()
            keys.append(int.from_bytes(digest, "little") & _KEY_BITS)
        return keys


def _as_bytes(seq: SequenceLike, i: int) -> bytes:
    return np.asarray(seq.block(i), np.int64).tobytes()
