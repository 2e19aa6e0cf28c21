"""Hooks: the calls of vLLM that change memory, listened to on the objects of one engine.

Owns: which methods, and what each writes. Leaves to others: the words' layout (`kvatlas.wire`),
what becomes of them (`recorder`).

Written for vLLM 0.32. A hook is an attribute of the instance in front of the class's method, so
taking it away is deleting the attribute, and other engines of the process are not concerned. What
happens for every decoded token is not listened to: a wrapper around `allocate_slots` alone costs
some 3% of a decoding step. A step's scheduled tokens are written once, when it is over, and the few
calls that reach the pool learn whose they are from the caller's local `request_id`.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kvatlas.live.recorder import NONE, Recorder
from kvatlas.wire import layout
from kvatlas.wire.layout import MASK31

__all__ = ["Hooks"]

_PLAIN_MANAGERS = ("FullAttentionManager", "SlidingWindowManager", "ChunkedLocalAttentionManager")


class Hooks:
    """Listens to one scheduler, its manager and its pool while installed."""

    def __init__(self, scheduler: Any, recorder: Recorder) -> None:
        self.scheduler, self.recorder = scheduler, recorder
        self.manager = scheduler.kv_cache_manager
        self.pool = self.manager.block_pool
        # A window of sampling ends after so many more steps that schedule something.
        self.steps_left: float = math.inf
        self.on_until: Callable[[], None] = lambda: None
        self._restore: list[tuple[Any, str]] = []
        self._in_flight: deque[tuple[Any, int]] = deque()
        # Lists that the next ones may be said to be like; None: a reader may begin here.
        self._names: list[str] | None = None
        self._got_names: list[str] | None = None
        self._unknown_step = 0
        self._empty_body: list[int] | None = None
        self._empty_steps = self._empty_us = 0
        # Elsewhere a table may hold blocks that entered it in ways not listened to: list the ids.
        managers = self.manager.coordinator.single_type_managers
        self._lists_freed = self.manager.coordinator.enable_partial_hash_hits or any(
            type(manager).__name__ not in _PLAIN_MANAGERS for manager in managers
        )

    def install(self) -> None:
        """Begin to listen."""
        self._names = self._got_names = None
        self._empty_body, self._empty_steps = None, 0
        self._in_flight.clear()
        for owner, name, hook in (
            (self.scheduler, "schedule", self._schedule),
            (self.scheduler, "update_from_output", self._update_from_output),
            (self.scheduler, "add_request", self._add_request),
            (self.scheduler, "finish_requests", self._finish_requests),
            (self.scheduler, "_free_request", self._free_request),
            (self.scheduler, "_preempt_request", self._preempt_request),
            (self.manager, "get_computed_blocks", self._get_computed_blocks),
            (self.manager, "pop_blocks_for_free", self._pop_blocks_for_free),
            (self.pool, "get_new_blocks", self._get_new_blocks),
            (self.pool, "touch", self._touch),
            (self.pool, "free_blocks", self._free_blocks),
            (self.pool, "cache_full_blocks", self._cache_full_blocks),
            (self.pool, "cache_partial_block", self._cache_partial_block),
            (self.pool, "evict_blocks", self._evict_blocks),
            (self.pool, "move_block_hashes", self._move_block_hashes),
            (self.pool, "unpin_blocks", self._unpin_blocks),
            (self.pool, "reset_prefix_cache", self._reset_prefix_cache),
        ):
            self._hook(owner, name, hook)
        for group, manager in enumerate(self.manager.coordinator.single_type_managers):
            self._hook(manager, "_apply_cow", self._apply_cow(group))

    def checkpointed(self) -> None:
        """Refer to nothing that was written before: reading may begin here."""
        self._names = self._got_names = None
        self._unknown_step = self.recorder.step

    def remove(self) -> None:
        """Stop listening: every method is vLLM's own again."""
        for owner, name in self._restore:
            delattr(owner, name)
        self._restore.clear()

    def _hook(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        setattr(owner, name, make(getattr(owner, name)))
        self._restore.append((owner, name))

    # Steps

    def _schedule(self, inner: Any) -> Any:
        recorder, buffer = self.recorder, self.recorder.buffer
        began = layout.STEP_BEGAN | 3 << 8

        def schedule(*args: Any, **kwargs: Any) -> Any:
            now = recorder.now_us()
            start = len(buffer)
            buffer.extend((began, now & MASK31, now >> 31))
            try:
                output = inner(*args, **kwargs)
            except BaseException:
                recorder.flush()  # the last thing that happened is what one wants to see
                raise
            try:
                self._step_ended(output, start)
            except Exception as error:
                recorder.fail(error)
            recorder.flush()
            if self.steps_left <= 0:
                self.on_until()
            return output

        return schedule

    def _step_ended(self, output: Any, start: int) -> None:
        recorder, pool = self.recorder, self.pool
        buffer = recorder.buffer
        recorder.step = step = recorder.step + 1
        scheduled = output.num_scheduled_tokens
        tokens = output.total_num_scheduled_tokens
        if tokens == 0 and self._same_as_before(start):
            return
        if self._empty_steps:
            self._write_empty_steps(start)
        if tokens == 0:
            self._empty_body = buffer[start + 3 :]
        else:
            self._empty_body = None
            self._in_flight.append((output, step))
            self.steps_left -= 1
        scheduler = self.scheduler
        waiting = len(scheduler.waiting) + len(scheduler.kv_holding_waiting)
        names = list(scheduled)
        count = len(names)
        lists: Iterable[int] = ()
        if names != self._names:
            how, more = layout.NEW_ROWS, 2 * count
            rows = recorder.rows
            lists = [rows[name] for name in names]
            lists += scheduled.values()
            self._names = names
        elif tokens == count:
            how, more = layout.ONE_EACH, 0
        elif (last := scheduled[names[-1]]) - 1 == tokens - count:
            how, more, lists = layout.BUT_ONE, 2, (count - 1, last)
        else:
            how, more, lists = layout.SAME_ROWS, count, scheduled.values()
        buffer.extend((
            layout.STEP_ENDED | (10 + more) << 8, step & MASK31, step >> 31, tokens,
            len(scheduler.running), waiting, pool.free_block_queue.num_free_blocks,
            len(pool.cached_block_hash_to_block._cache), how, count,
        ))  # fmt: skip
        buffer.extend(lists)

    def _same_as_before(self, start: int) -> bool:
        """Drop the words of a step that scheduled nothing, in the same way as the step before."""
        buffer = self.recorder.buffer
        if self._empty_body is None or buffer[start + 3 :] != self._empty_body:
            return False
        del buffer[start:]
        self._empty_steps += 1
        self._empty_us = self.recorder.now_us()
        return True

    def _write_empty_steps(self, start: int) -> None:
        count, now = self._empty_steps, self._empty_us
        self._empty_steps = 0
        self.recorder.insert(
            start, layout.EMPTY_STEPS | 5 << 8, count & MASK31, count >> 31, now & MASK31, now >> 31
        )

    def _update_from_output(self, inner: Any) -> Any:
        recorder, buffer = self.recorder, self.recorder.buffer
        began = layout.OUTPUTS_BEGAN | 1 << 8

        def update_from_output(scheduler_output: Any, model_output: Any) -> Any:
            empty = scheduler_output.total_num_scheduled_tokens == 0
            if not empty:
                buffer.append(began)
            result = inner(scheduler_output, model_output)
            try:
                if not empty:
                    self._outputs_ended(scheduler_output, model_output)
            except Exception as error:
                recorder.fail(error)
            if buffer:
                recorder.flush()
            return result

        return update_from_output

    def _outputs_ended(self, output: Any, model_output: Any) -> None:
        recorder = self.recorder
        step = NONE
        # A step that was scheduled before a window opened is not among them.
        if any(sent is output for sent, _ in self._in_flight):
            sent = None
            while sent is not output:
                sent, step = self._in_flight.popleft()
        names = model_output.req_ids
        counts = [len(tokens) for tokens in model_output.sampled_token_ids]
        count, ones = len(counts), counts.count(1)
        if ones == count == len(output.num_scheduled_tokens) and step > self._unknown_step:
            how, counts = layout.ONE_EACH, []
        elif names != self._got_names or count != len(names):
            how = layout.NEW_ROWS
            rows = recorder.rows
            counts = counts[: len(names)]
            count = len(counts)
            counts[:0] = [rows.get(name, NONE) for name in names[:count]]
            self._got_names = list(names)
        elif ones == count - 1 and 0 in counts:
            how, counts = layout.BUT_ONE, [counts.index(0), 0]
        else:
            how = layout.SAME_ROWS
        now = recorder.now_us()
        buffer = recorder.buffer
        buffer.extend((
            layout.OUTPUTS_ENDED | (7 + len(counts)) << 8, step & MASK31, step >> 31,
            now & MASK31, now >> 31, how, count,
        ))  # fmt: skip
        buffer.extend(counts)

    # Requests

    def _add_request(self, inner: Any) -> Any:
        recorder = self.recorder

        def add_request(request: Any) -> None:
            inner(request)
            try:
                recorder.row_of(request)
            except Exception as error:
                recorder.fail(error)
            recorder.flush()

        return add_request

    def _finish_requests(self, inner: Any) -> Any:
        recorder = self.recorder

        def finish_requests(*args: Any, **kwargs: Any) -> Any:
            try:
                return inner(*args, **kwargs)
            finally:
                recorder.flush()

        return finish_requests

    def _free_request(self, inner: Any) -> Any:
        recorder = self.recorder

        def free_request(request: Any, *args: Any, **kwargs: Any) -> Any:
            row = recorder.rows.get(request.request_id, NONE)
            try:
                recorder.put(layout.LEAVES, row, int(request.status))
            except Exception as error:
                recorder.fail(error)
            result = inner(request, *args, **kwargs)
            try:
                recorder.put(
                    layout.FINISHED, row, int(request.status), request.num_tokens,
                    request.num_computed_tokens,
                )  # fmt: skip
                recorder.forget(request.request_id)
                # Its name may come again, for another request.
                self._names = self._got_names = None
            except Exception as error:
                recorder.fail(error)
            return result

        return free_request

    def _preempt_request(self, inner: Any) -> Any:
        recorder = self.recorder

        def preempt_request(request: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                recorder.put(
                    layout.PREEMPTED, recorder.rows.get(request.request_id, NONE),
                    request.num_computed_tokens, request.num_tokens,
                )  # fmt: skip
            except Exception as error:
                recorder.fail(error)
            return inner(request, *args, **kwargs)

        return preempt_request

    # The manager

    def _get_computed_blocks(self, inner: Any) -> Any:
        recorder, manager = self.recorder, self.manager
        buffer, rows, head = recorder.buffer, recorder.rows, layout.LOOKED_UP | 4 << 8

        def get_computed_blocks(request: Any) -> Any:
            result = inner(request)
            try:
                asked = manager.enable_caching and not request.skip_reading_prefix_cache
                row = rows.get(request.request_id, NONE)
                if request.num_preemptions and row != NONE:
                    # It may be found by blocks that it filled and never cached itself.
                    hashes = request.block_hashes
                    recorder.write_hashes(row, hashes, len(hashes))
                buffer.extend((head, row, request.num_tokens, result[1] if asked else NONE))
            except Exception as error:
                recorder.fail(error)
            return result

        return get_computed_blocks

    def _pop_blocks_for_free(self, inner: Any) -> Any:
        recorder = self.recorder

        def pop_blocks_for_free(request: Any) -> Any:
            try:
                recorder.put(layout.POPPED, recorder.rows.get(request.request_id, NONE))
            except Exception as error:
                recorder.fail(error)
            return inner(request)

        return pop_blocks_for_free

    # The pool

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

    # What few models or settings do

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
