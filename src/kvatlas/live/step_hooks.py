"""Hooks on steps: what `schedule` and `update_from_output` decided, once each is over.

Owns: who got how many tokens, written by difference; steps that schedule nothing, counted; windows
of sampling. Leaves to others: requests (`request_hooks`), blocks (`pool_hooks`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kvatlas.live.recorder import NONE, Recorder
from kvatlas.wire import layout
from kvatlas.wire.layout import MASK31

__all__ = ["StepHooks"]


class StepHooks:
    """Listens to a scheduler's steps.

    Attributes:
        steps_left: a window of sampling ends after so many more steps that schedule something.
        on_until: called then.
    """

    def __init__(self, scheduler: Any, recorder: Recorder) -> None:
        self.scheduler, self.recorder = scheduler, recorder
        self.pool = scheduler.kv_cache_manager.block_pool
        self.steps_left: float = math.inf
        self.on_until: Callable[[], None] = lambda: None
        self._in_flight: deque[tuple[Any, int]] = deque()
        # Lists that the next ones may be said to be like; None: a reader may begin here.
        self._names: list[str] | None = None
        self._got_names: list[str] | None = None
        self._unknown_step = 0
        self._empty_body: list[int] | None = None
        self._empty_steps = self._empty_us = 0

    def begin(self) -> None:
        """Begin to listen: what was before is not known."""
        self.forget_lists()
        self._empty_body, self._empty_steps = None, 0
        self._in_flight.clear()

    def forget_lists(self) -> None:
        """Write the next lists in full."""
        self._names = self._got_names = None

    def checkpointed(self) -> None:
        """Refer to nothing that was written before: reading may begin here."""
        self.forget_lists()
        self._unknown_step = self.recorder.step

    def table(self) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """Return whose methods are listened to, and what stands in front of each."""
        return [
            (self.scheduler, "schedule", self._schedule),
            (self.scheduler, "update_from_output", self._update_from_output),
        ]

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
                try:
                    self.on_until()
                except Exception as error:
                    recorder.fail(error)
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
