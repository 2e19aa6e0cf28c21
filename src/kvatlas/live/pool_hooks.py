"""Hooks on the block pool: who takes, shares, gives back and fills which blocks.

Owns: what each call of the pool writes, and whose it is. Leaves to others: what few models do
(`rare_hooks`), requests (`request_hooks`).

The pool is not told for whom it works; the caller knows, as its local `request_id`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kvatlas.live.recorder import NONE, Recorder
from kvatlas.wire import layout

__all__ = ["PoolHooks"]


class PoolHooks:
    """Listens to a pool. Where it `lists_freed`, ids are written although the table is known."""

    def __init__(self, pool: Any, recorder: Recorder, *, lists_freed: bool) -> None:
        self.pool, self.recorder, self._lists_freed = pool, recorder, lists_freed

    def table(self) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """Return whose methods are listened to, and what stands in front of each."""
        return [
            (self.pool, "get_new_blocks", self._get_new_blocks),
            (self.pool, "touch", self._touch),
            (self.pool, "free_blocks", self._free_blocks),
            (self.pool, "cache_full_blocks", self._cache_full_blocks),
        ]

    def _get_new_blocks(self, inner: Any) -> Any:
        recorder, buffer, rows = self.recorder, self.recorder.buffer, self.recorder.rows
        frame = sys._getframe

        def get_new_blocks(num_blocks: int) -> Any:
            blocks = inner(num_blocks)
            if blocks:
                try:
                    caller = frame(1).f_locals
                    manager, name = caller.get("self"), caller.get("request_id", "")
                    tables = getattr(manager, "req_to_blocks", None)
                    buffer.extend((
                        layout.ALLOCATED | (4 + len(blocks)) << 8,
                        rows.get(name, NONE),
                        getattr(manager, "kv_cache_group_id", NONE),
                        len(tables[name]) if tables is not None and name in tables else NONE,
                    ))  # fmt: skip
                    buffer.extend([block.block_id for block in blocks])
                except Exception as error:
                    recorder.fail(error)
            return blocks

        return get_new_blocks

    def _touch(self, inner: Any) -> Any:
        recorder, buffer, rows = self.recorder, self.recorder.buffer, self.recorder.rows
        frame = sys._getframe

        def touch(blocks: Any) -> None:
            inner(blocks)
            if blocks:
                try:
                    caller = frame(1).f_locals
                    buffer.extend((
                        layout.TOUCHED | (4 + len(blocks)) << 8,
                        rows.get(caller.get("request_id", ""), NONE),
                        getattr(caller.get("self"), "kv_cache_group_id", NONE),
                        caller.get("num_skipped_blocks", 0),
                    ))  # fmt: skip
                    buffer.extend([block.block_id for block in blocks])
                except Exception as error:
                    recorder.fail(error)

        return touch

    def _free_blocks(self, inner: Any) -> Any:
        recorder, buffer, rows = self.recorder, self.recorder.buffer, self.recorder.rows
        frame, lists = sys._getframe, self._lists_freed

        def free_blocks(ordered_blocks: Any) -> None:
            try:
                caller = frame(1)
                known = caller.f_locals
                row = rows.get(known.get("request_id", ""), NONE)
                group = getattr(known.get("self"), "kv_cache_group_id", NONE)
                if caller.f_code.co_name == "free" and not lists:
                    count = ordered_blocks.__length_hint__()
                    if count:
                        buffer.extend((layout.FREED_ALL | 4 << 8, row, group, count))
                else:
                    ordered_blocks = list(ordered_blocks)
                    ids = [block.block_id for block in ordered_blocks]
                    if ids:
                        buffer.extend((layout.FREED | (3 + len(ids)) << 8, row, group))
                        buffer.extend(ids)
            except Exception as error:
                recorder.fail(error)
            inner(ordered_blocks)

        return free_blocks

    def _cache_full_blocks(self, inner: Any) -> Any:
        recorder, buffer, rows = self.recorder, self.recorder.buffer, self.recorder.rows
        hash_block_size, hashed = self.pool.hash_block_size, recorder.hashed

        def cache_full_blocks(
            request: Any, blocks: Any, num_cached_blocks: int, num_full_blocks: int,
            block_size: int, kv_cache_group_id: int, block_mask: Any = None,
        ) -> Any:  # fmt: skip
            result = inner(
                request, blocks, num_cached_blocks, num_full_blocks, block_size,
                kv_cache_group_id, block_mask,
            )  # fmt: skip
            if num_cached_blocks < num_full_blocks:
                try:
                    row = rows.get(request.request_id, NONE)
                    needed = num_full_blocks * block_size // hash_block_size
                    if row != NONE and hashed[row] < needed:
                        recorder.write_hashes(row, request.block_hashes, needed)
                    mask = () if block_mask is None else [int(kept) for kept in block_mask]
                    buffer.extend((
                        layout.CACHED | (6 + len(mask)) << 8, row, kv_cache_group_id,
                        num_cached_blocks, num_full_blocks, len(mask),
                    ))  # fmt: skip
                    buffer.extend(mask)
                except Exception as error:
                    recorder.fail(error)
            return result

        return cache_full_blocks
