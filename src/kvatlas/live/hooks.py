"""Hooks: the calls of vLLM that change memory, listened to on the objects of one engine.

Owns: putting hooks in front of methods and taking them away. Leaves to others: which methods and
what each writes (`step_hooks`, `request_hooks`, `pool_hooks`, `rare_hooks`), the words' layout
(`kvatlas.wire`), what becomes of them (`recorder`).

Written for vLLM 0.32. A hook is an attribute of the instance in front of the class's method, so
taking it away is deleting the attribute, and other engines of the process are not concerned. What
happens for every decoded token is not listened to, for each would pay: a step's scheduled tokens
are written once, when it is over, and the few calls that reach the pool learn whose they are from
the caller's local `request_id`.
"""

from __future__ import annotations

from typing import Any

from kvatlas.live.pool_hooks import PoolHooks
from kvatlas.live.rare_hooks import RareHooks
from kvatlas.live.recorder import Recorder
from kvatlas.live.request_hooks import RequestHooks
from kvatlas.live.step_hooks import StepHooks

__all__ = ["Hooks"]

_PLAIN_MANAGERS = ("FullAttentionManager", "SlidingWindowManager", "ChunkedLocalAttentionManager")


class Hooks:
    """Listens to one scheduler, its manager and its pool while installed.

    Attributes:
        steps: the hooks on steps, which also end a window of sampling.
    """

    def __init__(self, scheduler: Any, recorder: Recorder) -> None:
        manager = scheduler.kv_cache_manager
        # Elsewhere a table may hold blocks that entered it in ways not listened to: list the ids.
        lists_freed = manager.coordinator.enable_partial_hash_hits or any(
            type(each).__name__ not in _PLAIN_MANAGERS
            for each in manager.coordinator.single_type_managers
        )
        self.steps = StepHooks(scheduler, recorder)
        self._listeners = (
            self.steps,
            RequestHooks(scheduler, recorder, self.steps.forget_lists),
            PoolHooks(manager.block_pool, recorder, lists_freed=lists_freed),
            RareHooks(manager, recorder),
        )
        self._restore: list[tuple[Any, str]] = []

    def install(self) -> None:
        """Begin to listen."""
        self.steps.begin()
        for listener in self._listeners:
            for owner, name, hook in listener.table():
                setattr(owner, name, hook(getattr(owner, name)))
                self._restore.append((owner, name))

    def remove(self) -> None:
        """Stop listening: every method is vLLM's own again."""
        for owner, name in self._restore:
            delattr(owner, name)
        self._restore.clear()
