"""`OOMHandler`: a ladder of ways to find blocks, for engines that schedule by themselves.

Owns: the order of the rungs, who gives way, that nobody is lost or overtaken. Leaves to others:
what a rung does (`means`), who comes first (`entitlement`), steps and tokens (the engine).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvatlas.defrag import MemoryDefragmenter
from kvatlas.engine import KVCacheBlocks, KVCacheManager, Request
from kvatlas.errors import InputError, InvariantError
from kvatlas.pressure.entitlement import Entitlement, blocks_at_end
from kvatlas.pressure.means import Means
from kvatlas.pressure.rungs import LadderStats, Record, RungTaken, Swap

__all__ = ["Admission", "OOMHandler"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What an admitted request holds.

    Attributes:
        block_ids: its tables, one per group.
        hit_tokens: found on the device; restored_tokens: brought back from the tier. Both count as
            computed, and `request.num_computed_tokens` says so.
        new_tokens: tokens that it has slots for and that are to be computed now.
    """

    block_ids: tuple[list[int], ...]
    hit_tokens: int
    restored_tokens: int
    new_tokens: int


class OOMHandler:
    """Finds blocks for requests, going down a ladder only as far as it must.

    1. *evict*: content that is only cached makes room (the pool does it by itself; it is counted);
    2. *swap*: the least entitled request gives way, its computed blocks go to the tier below, and
       come back when it is admitted again;
    3. *defragment*: where blocks must lie side by side, they are moved until they do;
    4. *preempt*: the least entitled gives way with nothing saved, and computes again;
    5. *refuse*: a request that can never fit, by one `InputError` before it takes anything.

    Entitled is who has the smaller `priority`, then who came first; `order` sorts by it. Nobody
    overtakes: once an admission found no room, the less entitled find none in that step either. So
    the most entitled request always gets on, and every request is served in the end.

    A step: `new_step`, then `grow` for everybody who runs, then `admit` while it returns something,
    then compute, then set `num_computed_tokens` of each. Content of a request that gives way before
    its step was computed leaves the prefix cache.

    Args:
        manager: whose blocks; all its requests must come through here.
        swap: a tier below the device; needs a single full-attention group.
        defragmenter: of the same manager, for `contiguous` tables.
        whole_prompt: admit only when the whole prompt (and output so far) fits.
        history: how many rungs to remember.

    Raises:
        InputError: a tier beside several groups.
    """

    def __init__(
        self,
        manager: KVCacheManager,
        *,
        swap: Swap | None = None,
        defragmenter: MemoryDefragmenter | None = None,
        whole_prompt: bool = True,
        history: int = 1024,
    ) -> None:
        self.manager = manager
        self._whole_prompt = whole_prompt
        self._record = Record(history)
        self._means = Means(manager, swap, defragmenter, self._record)
        self._entitlement = Entitlement()
        self._holders: dict[str, Request] = {}
        self._preempted: list[Request] = []
        self._admitting = False
        self._refused_at: tuple[int, int] | None = None

    @property
    def stats(self) -> LadderStats:
        """How often each rung was taken so far."""
        return self._record.stats

    @property
    def taken(self) -> tuple[RungTaken, ...]:
        """The last rungs, the oldest first."""
        return tuple(self._record.taken)

    @property
    def running(self) -> tuple[Request, ...]:
        """Who holds blocks, the most entitled first."""
        return tuple(self.order(self._holders.values()))

    def order(self, requests: Iterable[Request]) -> list[Request]:
        """Return requests, the most entitled first; those unknown yet come as they are given."""
        return self._entitlement.order(requests)

    def new_step(self) -> None:
        """A step begins: whoever found no room may find it now."""
        self._admitting = False
        self._refused_at = None

    def take_preempted(self) -> list[Request]:
        """Return who has given way since the last call: they wait again, nothing computed."""
        preempted, self._preempted = self._preempted, []
        return preempted

    def admit(
        self, request: Request, max_new_tokens: int | None = None, *, contiguous: bool = False
    ) -> Admission | None:
        """Give a waiting request its hits and slots for new tokens; None: it must wait.

        Nobody gives way for an admission. When the tier fails to bring back what it had, the
        request gives everything back, what it was to restore is not cached, and the error goes
        through: it may be admitted again. O(blocks).

        Raises:
            InputError: it can never fit; it runs already; no `defragmenter` for `contiguous`.
        """
        name = request.request_id
        if name in self._holders:
            raise InputError("it runs already", field="request", value=name, remedy="use grow")
        self._require_possible(request, contiguous)
        self._admitting = True
        if self._refused_at is not None and self._entitlement.of(request) > self._refused_at:
            self._record.add(waits=1)
            return None
        blocks, hit = self.manager.get_computed_blocks(request)
        block_size = self.manager.config.groups[0].block_size
        restored = self._means.restorable(request, hit)
        left = request.num_tokens - hit - restored * block_size
        new = left if max_new_tokens is None else max(1, min(left, max_new_tokens))
        evicted = self._means.evictions()
        request.num_computed_tokens = 0
        served = self.manager.allocate_slots(
            request,
            restored * block_size + new,
            hit,
            blocks,
            full_sequence_must_fit=self._whole_prompt,
            has_scheduled_reqs=bool(self._holders),
        )
        if served is None:
            self._wait(request)
            return None
        self._means.note_evictions(evicted, name)
        self._means.restore(request, hit, restored)
        request.num_computed_tokens = hit + restored * block_size
        self._holders[name] = request
        if contiguous and not self._means.made_contiguous(request):
            self._means.release(request)
            del self._holders[name]
            self._wait(request)
            return None
        ids = self.manager.get_block_ids(name)
        return Admission(ids, hit, restored * block_size, new)

    def grow(
        self, request: Request, num_new_tokens: int = 1, *, contiguous: bool = False
    ) -> KVCacheBlocks | None:
        """Give a running request slots for more tokens; None: it has given way itself.

        The less entitled give way for it, one after another: see `take_preempted`. With
        `contiguous` ask the manager for the whole table: it may lie elsewhere. O(blocks).

        Raises:
            InputError: it does not run; admissions of this step have begun; no `defragmenter`.
        """
        name = request.request_id
        if name not in self._holders:
            raise InputError("it does not run", field="request", value=name, remedy="use admit")
        if self._admitting:
            raise InputError(
                "what runs grows before anybody is admitted",
                field="grow",
                value=name,
                remedy="call new_step first",
            )
        self._require_possible(request, contiguous)
        while True:
            evicted = self._means.evictions()
            blocks = self.manager.allocate_slots(request, num_new_tokens)
            if blocks is not None:
                self._means.note_evictions(evicted, name)
                if not contiguous or self._means.made_contiguous(request):
                    return blocks
            victim = self.running[-1]
            self._means.take(victim, request)
            del self._holders[victim.request_id]
            victim.num_preemptions += 1
            self._preempted.append(victim)
            if victim is request:
                return None

    def finish(self, request: Request) -> None:
        """Take the blocks of a request that is done, or given up; it may be waiting, too."""
        self._holders.pop(request.request_id, None)
        self._entitlement.forget(request.request_id)
        self.manager.free(request)

    def reset_prefix_cache(self) -> bool:
        """Forget all cached content, on the device and in the tier below; False, and nothing done,
        while a block is in use.

        After other weights nothing that was computed before may be found. O(blocks).

        Raises: whatever the tier refuses with: `SwapManager` with an InputError while something is
            held; the device has forgotten then, so call it again.
        """
        if not self.manager.reset_prefix_cache():
            return False
        self._means.clear_tier()
        return True

    def check(self) -> None:
        """Check every invariant. Raises: InvariantError."""
        self.manager.check()
        for name in self._holders:
            if not any(self.manager.get_block_ids(name)):
                raise InvariantError(f"request {name} runs and holds nothing")
            if name not in self._entitlement:
                raise InvariantError(f"request {name} runs and never came")

    def _require_possible(self, request: Request, contiguous: bool) -> None:
        """Refuse what can never be served, before it takes anything."""
        if contiguous and not self._means.can_move:
            raise InputError(
                "nobody moves blocks side by side",
                field="contiguous",
                value=True,
                remedy="give a defragmenter",
            )
        name, config = request.request_id, self.manager.config
        needed = blocks_at_end(request, config)
        if needed <= config.num_blocks - 1:
            self._entitlement.note(request)
            return
        self._record.note("refuse", name, name, needed)
        self._record.add(refusals=1)
        raise InputError(
            f"request {name} can never fit: it needs {needed:,} blocks at its end, the pool has "
            f"{config.num_blocks - 1:,}",
            field="max_tokens",
            value=request.max_tokens,
            remedy="a shorter prompt, fewer output tokens, or more blocks",
        )

    def _wait(self, request: Request) -> None:
        self._record.add(waits=1)
        self._refused_at = self._entitlement.of(request)
