"""A served engine whose model writes numbers into real memory, so that every byte can be asked for.

The number of a slot names all tokens up to it: what a prefix hit, a move or a shared block shows is
right exactly when the number is.
"""

from __future__ import annotations

from collections.abc import Callable

from kvatlas.engine import Request, Scheduler, SchedulerOutput
from kvatlas.storage import KVCacheMemoryPool

__all__ = ["Served", "storage_for"]


class Served:
    """A scheduler, its requests, and the bytes behind its blocks.

    Attributes:
        counts: what was decided: steps, tokens, preemptions, finished.
        seen: how many slots were read back and found right.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        requests: list[Request],
        storage: KVCacheMemoryPool | None = None,
    ) -> None:
        self.scheduler, self.storage = scheduler, storage
        self.requests = {request.request_id: request for request in requests}
        self.pending: list[SchedulerOutput] = []
        self.decided: list[object] = []
        self.seen = 0
        self._names: dict[tuple[int, ...], int] = {}
        for request in requests:
            scheduler.add_request(request)

    def step(self, between: Callable[[], None] | None = None) -> bool:
        """Schedule, compute, `between`, take the output in; say whether there is more to do."""
        if not (self.scheduler.has_requests() or self.pending):
            return False
        if self.scheduler.has_requests():
            output = self.scheduler.schedule()
            self.pending.append(output)
            self.decided.append(
                (output.num_scheduled_tokens, output.num_computed_tokens, output.preempted)
            )
            self._compute(output)
        if between is not None:
            between()
        if self.scheduler.has_requests() and len(self.pending) <= int(
            self.scheduler.config.async_scheduling
        ):
            return True
        output = self.pending.pop(0)
        sampled = {name: self._token(name) for name in output.sampling}
        done = self.scheduler.update_from_output(output, sampled)
        self.decided.append(sorted(request.request_id for request in done))
        return True

    def _token(self, name: str) -> int:
        return 1000 + int(name[1:])

    def _compute(self, output: SchedulerOutput) -> None:
        """Read what is computed already, write what this step computes, in every group."""
        if self.storage is None:
            return
        for name, tokens in output.num_scheduled_tokens.items():
            request = self.requests[name]
            stop = request.num_computed_tokens
            start = stop - tokens
            known = list(request.all_token_ids)
            known += [self._token(name)] * (stop - len(known))  # sampled ahead of the update
            for group, table in enumerate(self.scheduler.get_block_ids(name)):
                size = self.scheduler.config.groups[group].block_size
                for at in range(stop):
                    block = table[at // size]
                    if block == 0:
                        continue
                    prefix = tuple(known[: at + 1])
                    number = self._names.setdefault(prefix, len(self._names) + 1)
                    slot = self.storage.layers[0][block, :, at % size]
                    if at >= start:
                        slot[...] = number
                    else:
                        assert (slot == number).all(), f"{name} at {at}: {slot.ravel()[:2]}"
                        self.seen += 1


def storage_for(
    scheduler: Scheduler, layout: str = "block", zero_on_free: bool = False
) -> KVCacheMemoryPool:
    """Return memory for a scheduler's blocks."""
    config = scheduler.config
    return KVCacheMemoryPool(
        config.num_blocks,
        num_layers=1,
        block_size=max(spec.block_size for spec in config.groups),
        kv_heads=1,
        head_size=2,
        layout=layout,
        zero_on_free=zero_on_free,
    )
