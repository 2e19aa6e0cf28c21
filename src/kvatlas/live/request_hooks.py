"""Hooks on requests: they arrive, are looked up, preempted, finished.

Owns: what each of these calls writes. Leaves to others: steps (`step_hooks`), the blocks that the
calls move (`pool_hooks`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvatlas.live.recorder import NONE, Recorder
from kvatlas.wire import layout

__all__ = ["RequestHooks"]


class RequestHooks:
    """Listens to what happens to a scheduler's requests.

    `forget_lists` is called when a request's name is free again.
    """

    def __init__(
        self, scheduler: Any, recorder: Recorder, forget_lists: Callable[[], None]
    ) -> None:
        self.scheduler, self.recorder = scheduler, recorder
        self.manager = scheduler.kv_cache_manager
        self.forget_lists = forget_lists

    def table(self) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """Return whose methods are listened to, and what stands in front of each."""
        return [
            (self.scheduler, "add_request", self._add_request),
            (self.scheduler, "finish_requests", self._finish_requests),
            (self.scheduler, "_free_request", self._free_request),
            (self.scheduler, "_preempt_request", self._preempt_request),
            (self.manager, "get_computed_blocks", self._get_computed_blocks),
            (self.manager, "pop_blocks_for_free", self._pop_blocks_for_free),
        ]

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
                self.forget_lists()
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
