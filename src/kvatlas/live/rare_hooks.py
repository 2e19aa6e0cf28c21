"""Hooks on what few models, settings or operators do to memory.

Owns: resets, explicit evictions, blocks cached before they are full, moved hashes, copies on write,
unpinned blocks. Leaves to others: what happens in every step (`pool_hooks`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvatlas.live.recorder import NONE, Recorder
from kvatlas.wire import layout

__all__ = ["RareHooks"]


class RareHooks:
    """Listens to the rest of a pool's calls, and to its managers' copies."""

    def __init__(self, manager: Any, recorder: Recorder) -> None:
        self.manager, self.pool, self.recorder = manager, manager.block_pool, recorder

    def table(self) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """Return whose methods are listened to, and what stands in front of each."""
        return [
            (self.pool, "cache_partial_block", self._cache_partial_block),
            (self.pool, "evict_blocks", self._evict_blocks),
            (self.pool, "move_block_hashes", self._move_block_hashes),
            (self.pool, "unpin_blocks", self._unpin_blocks),
            (self.pool, "reset_prefix_cache", self._reset_prefix_cache),
            *(
                (manager, "_apply_cow", self._apply_cow(group))
                for group, manager in enumerate(self.manager.coordinator.single_type_managers)
            ),
        ]

    def _cache_partial_block(self, inner: Any) -> Any:
        recorder = self.recorder

        def cache_partial_block(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            try:
                request, block = kwargs.get("request"), kwargs.get("block")
                if request is not None and block is not None:
                    recorder.put(
                        layout.PART_CACHED, recorder.rows.get(request.request_id, NONE),
                        kwargs.get("kv_cache_group_id", NONE), block.block_id,
                        kwargs.get("num_tokens", 0),
                    )  # fmt: skip
                else:
                    recorder.put(layout.PART_CACHED, NONE, NONE, NONE, NONE)
            except Exception as error:
                recorder.fail(error)
            return result

        return cache_partial_block

    def _evict_blocks(self, inner: Any) -> Any:
        recorder = self.recorder

        def evict_blocks(block_ids: Any) -> None:
            try:
                blocks = self.pool.blocks
                ids = [i for i in block_ids if blocks[i].block_hash is not None]
                recorder.put(layout.DROPPED, *ids)
            except Exception as error:
                recorder.fail(error)
            inner(block_ids)
            recorder.flush()

        return evict_blocks

    def _move_block_hashes(self, inner: Any) -> Any:
        recorder = self.recorder

        def move_block_hashes(src_block: Any, dst_block: Any) -> None:
            inner(src_block, dst_block)
            try:
                recorder.put(layout.HASH_MOVED, src_block.block_id, dst_block.block_id)
            except Exception as error:
                recorder.fail(error)

        return move_block_hashes

    def _unpin_blocks(self, inner: Any) -> Any:
        recorder = self.recorder

        def unpin_blocks(blocks: Any, on_reuse: Any) -> None:
            blocks = list(blocks)
            inner(blocks, on_reuse)
            try:
                recorder.put(layout.UNPINNED, *[block.block_id for block in blocks])
            except Exception as error:
                recorder.fail(error)

        return unpin_blocks

    def _reset_prefix_cache(self, inner: Any) -> Any:
        recorder = self.recorder

        def reset_prefix_cache() -> bool:
            done = bool(inner())
            try:
                recorder.put(layout.RESET, done)
            except Exception as error:
                recorder.fail(error)
            recorder.flush()
            return done

        return reset_prefix_cache

    def _apply_cow(self, group: int) -> Callable[[Any], Any]:
        recorder = self.recorder

        def make(inner: Any) -> Any:
            def apply_cow(request_id: str, index: int, source: Any, target: Any) -> None:
                inner(request_id, index, source, target)
                try:
                    row = recorder.rows.get(request_id, NONE)
                    recorder.put(layout.COPIED, row, group, index, source.block_id, target.block_id)
                except Exception as error:
                    recorder.fail(error)

            return apply_cow

        return make
