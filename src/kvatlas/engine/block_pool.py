"""`BlockPool`: the pool to embed, under vLLM's names, with block ids instead of block objects.

Owns: a thin, typed face over `state.Pool`. Leaves to others: the rules (`pool`, `prefix_index`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kvatlas.engine.build_pool import eviction_policy as policy_named
from kvatlas.engine.build_pool import make_pool, placement_of
from kvatlas.engine.check import check_pool
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import NONE, NULL_BLOCK
from kvatlas.engine.versions import VLLM_VERSIONS, rules
from kvatlas.errors import InputError


@dataclass(frozen=True)
class KVCacheBlock:
    """One block at one moment.

    `state` is `null`, `allocated` (owned), `cached` (free, its content can still be hit) or `free`.
    """

    block_id: int
    ref_cnt: int
    block_hash: int | None
    is_null: bool

    @property
    def state(self) -> str:
        """The block's state by the name users know."""
        if self.is_null:
            return "null"
        if self.ref_cnt > 0:
            return "allocated"
        return "free" if self.block_hash is None else "cached"


class BlockPool:
    """All KV blocks: free queue in eviction order, ref counts, prefix cache.

    Equal to vLLM's BlockPool decision for decision. Block 0 is the null block. Keys are 64-bit
    integers that identify a whole prefix (`block_hashing.BlockHasher` makes them from tokens).

    Args:
        num_gpu_blocks: blocks, the null block included.
        enable_caching: whether freed blocks keep their content.
        num_groups: KV cache groups that share the pool.
        version: whose rules (`versions.VLLM_VERSIONS`).
        eviction_policy: who is evicted, a name of `kvatlas.eviction.POLICIES`; with another than
            `lru` empty blocks are taken first, whatever the version. Blocks that are freed together
            count as a path, deepest first.
        placement: which free ids `get_new_blocks` takes, a name of `kvatlas.placement.PLACEMENTS`.

    Memory: 40 bytes per block and 8 to 16 for its slots in the index; a policy takes 88 more.

    Raises:
        InputError: fewer than 2 blocks, an unknown version, policy or placement.
    """

    def __init__(
        self,
        num_gpu_blocks: int,
        enable_caching: bool = True,
        *,
        num_groups: int = 1,
        version: str = VLLM_VERSIONS[0],
        eviction_policy: str = "lru",
        placement: str = "queue",
    ) -> None:
        if not 2 <= num_gpu_blocks < 2**31:
            raise InputError(
                "a pool needs at least 2 blocks",
                field="num_gpu_blocks",
                value=num_gpu_blocks,
                remedy="one of them is the null block",
            )
        self.num_gpu_blocks = num_gpu_blocks
        self.enable_caching = enable_caching
        self.state = make_pool(
            num_gpu_blocks,
            num_groups=num_groups,
            caching=enable_caching,
            prepend_unhashed=rules(version).prepend_unhashed,
            eviction=policy_named(eviction_policy),
            placement=placement_of(placement, eviction_policy),
        )

    null_block = NULL_BLOCK

    def get_new_blocks(self, num_blocks: int) -> list[int] | None:
        """Take `num_blocks` from the head of the free queue, evicting what they cached.

        A placement takes others, or the same in another order.

        Returns None when fewer are free (vLLM raises there). O(num_blocks).
        """
        if num_blocks > self.get_num_free_blocks():
            return None
        out = np.empty(num_blocks, np.int32)
        entries.get_new_blocks(self.state, num_blocks, out)
        return out.tolist()

    def touch(self, block_ids: Sequence[int]) -> None:
        """Add an owner to each block; those nobody owned leave the free queue. O(1) each."""
        entries.touch(self.state, self._ids(block_ids))

    def free_blocks(self, block_ids: Iterable[int]) -> None:
        """Take an owner from each block, in eviction order (the first is evicted first)."""
        ids = self._ids(list(block_ids))
        owned = self.state.blocks["ref_count"][ids]
        if (owned[ids != NULL_BLOCK] < 1).any() or len(set(ids.tolist())) != len(ids):
            raise InputError(
                "a block is freed that nobody owns",
                field="block_ids",
                value=ids.tolist(),
                remedy="free each block once per owner",
            )
        entries.free_blocks(self.state, ids)

    def cache_full_blocks(
        self, block_ids: Sequence[int], keys: Sequence[int], kv_cache_group_id: int = 0
    ) -> None:
        """Cache full blocks under their keys; the caller owns them and they carry no key yet."""
        ids = self._ids(block_ids)
        if (self.state.blocks["key"][ids[ids != NULL_BLOCK]] != NONE).any():
            raise InputError("a block is cached already", field="block_ids", value=ids.tolist())
        if len(keys) != len(ids):
            raise InputError("as many keys as blocks", field="keys", value=len(keys))
        if self.enable_caching:
            entries.cache_blocks(self.state, kv_cache_group_id, np.asarray(keys, np.int64), ids)

    def get_cached_block(
        self, key: int, kv_cache_group_ids: Sequence[int] = (0,)
    ) -> list[int] | None:
        """Return the block first cached under `key` in every group, None if one has none. O(1)."""
        found = [int(entries.find(self.state, group, key)) for group in kv_cache_group_ids]
        return None if NONE in found else found

    def evict_blocks(self, block_ids: Iterable[int]) -> None:
        """Drop the content cached in the given blocks without freeing them."""
        for block in self._ids(list(block_ids)).tolist():
            entries.evict(self.state, block)

    def reset_prefix_cache(self) -> bool:
        """Forget all cached content; False (and nothing done) while a block is in use."""
        return bool(entries.reset_prefix_cache(self.state))

    def get_num_free_blocks(self) -> int:
        """Blocks in the free queue."""
        return int(self.state.info.free)

    def get_usage(self) -> float:
        """Share of the blocks in use, the null block left out, 0 to 1."""
        total = self.num_gpu_blocks - 1
        return 1.0 - self.get_num_free_blocks() / total

    def get_all_free_blocks(self) -> list[int]:
        """The free queue from head (evicted first) to tail. O(blocks)."""
        return self._from_head(self.state.blocks["next_free"].tolist(), self.num_gpu_blocks)

    def first_free_blocks(self, count: int) -> list[int]:
        """The first `count` blocks of the free queue, or as many as it has. O(count)."""
        return self._from_head(self.state.blocks["next_free"], count)

    def _from_head(self, next_free: Sequence[int], most: int) -> list[int]:
        sentinel = self.num_gpu_blocks
        ids: list[int] = []
        block = int(next_free[sentinel])
        while block != sentinel and len(ids) < most:
            ids.append(block)
            block = int(next_free[block])
        return ids

    def block(self, block_id: int) -> KVCacheBlock:
        """Return what one block is now."""
        record = self.state.blocks[self._ids([block_id])[0]]
        key = int(record.key)
        null = block_id == NULL_BLOCK
        return KVCacheBlock(block_id, int(record.ref_count), None if key == NONE else key, null)

    def check(self) -> None:
        """Check every invariant. O(blocks). Raises InvariantError."""
        check_pool(self.state)

    def _ids(self, block_ids: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        ids = np.asarray(block_ids, np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.num_gpu_blocks):
            raise InputError(
                "no such block",
                field="block_ids",
                value=ids.tolist(),
                remedy=f"ids run from 0 to {self.num_gpu_blocks - 1}",
            )
        return ids.astype(np.int32)
