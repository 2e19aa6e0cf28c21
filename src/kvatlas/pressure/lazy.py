"""`LazyDeallocator`: blocks that come back some steps after their request is done.

Owns: who waits, and for how long. Leaves to others: the blocks (`KVCacheManager`), and the same for
the simulated scheduler (`EngineConfig.lazy_free_steps`).
"""

from __future__ import annotations

from collections import deque

from kvatlas.engine import KVCacheManager, Request
from kvatlas.errors import InputError, InvariantError

__all__ = ["LazyDeallocator"]


class LazyDeallocator:
    """Keeps the blocks of finished requests for a number of steps.

    For engines whose device may still read or write a request's blocks after its last token has
    been seen (a step ahead, a transfer under way). It makes nothing faster: see the verdicts in the
    guide to memory pressure.

    Args:
        manager: whose requests. One that waits here still counts against its `max_num_seqs` and
            `max_num_requests`.
        steps: steps through which the blocks stay, 1 or more.

    Raises:
        InputError: fewer steps.
    """

    def __init__(self, manager: KVCacheManager, steps: int) -> None:
        if steps < 1:
            raise InputError("must be at least 1", field="steps", value=steps)
        self.manager, self.steps = manager, steps
        self._waiting: deque[tuple[int, Request]] = deque()
        self._ids: set[str] = set()
        self._step = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def free(self, request: Request) -> None:
        """Let the blocks of `request` come back after `steps` more calls of `step`; O(1).

        Raises: InputError when it waits already.
        """
        if request.request_id in self._ids:
            raise InputError("freed twice", field="request", value=request.request_id)
        self._waiting.append((self._step + self.steps, request))
        self._ids.add(request.request_id)

    def step(self) -> int:
        """A step has begun: give back what is due; return how many requests that were."""
        self._step += 1
        given = 0
        while self._waiting and self._waiting[0][0] < self._step:
            self._give_back()
            given += 1
        return given

    def hurry(self, num_blocks: int) -> bool:
        """Give back early, the oldest first, until `num_blocks` are free; False when they are not.

        A block that others share, or hold, does not become free by that.
        """
        while self._waiting and self.manager.get_num_free_blocks() < num_blocks:
            self._give_back()
        return self.manager.get_num_free_blocks() >= num_blocks

    def flush(self) -> int:
        """Give all back now; return how many requests that were."""
        given = len(self._waiting)
        while self._waiting:
            self._give_back()
        return given

    def check(self) -> None:
        """Check the order and the manager's invariants. Raises: InvariantError."""
        dues = [due for due, _ in self._waiting]
        if dues != sorted(dues) or any(due < self._step for due in dues):
            raise InvariantError("a request waits in the wrong place, or too long")
        if {request.request_id for _, request in self._waiting} != self._ids:
            raise InvariantError("who waits is not who was freed")
        self.manager.check()

    def _give_back(self) -> None:
        _, request = self._waiting.popleft()
        self._ids.discard(request.request_id)
        self.manager.free(request)
