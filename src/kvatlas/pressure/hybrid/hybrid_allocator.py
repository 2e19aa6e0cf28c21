"""`HybridAllocator`: device blocks, a host tier and an object cache under one budget.

Owns: the face, and carrying out what the tuning decides. Leaves to others: who gets which block
(`block_tiers`), objects (`object_cache`), the division (`tuning`, `loop`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from kvatlas.errors import InputError, InvariantError
from kvatlas.pressure.hybrid.block_tiers import Admitted, BlockTiers
from kvatlas.pressure.hybrid.loop import TuningLoop
from kvatlas.pressure.hybrid.object_cache import ObjectCache
from kvatlas.pressure.hybrid.tuning import Division, Look, Prices, Tuning, space, thirds
from kvatlas.storage import KVCacheMemoryPool

__all__ = ["HybridAllocator", "HybridCounts"]


@dataclass(frozen=True, slots=True)
class HybridCounts:
    """What was asked and served so far; `saved_s` is what all hits together were worth."""

    admissions: int
    refused: int
    queried_blocks: int
    device_hits: int
    restored: int
    written: int
    object_hits: int
    saved_s: float


class HybridAllocator:
    """One budget over three caches, divided by what the next bytes of each would save.

    A request's blocks are looked up on the device, then in the host tier, from where they come
    back; what the device evicts is written there. Every `tuning.interval` admissions the loop looks
    at what was asked for near the present limits, moves a step of the budget if that would have
    saved enough, and writes down what it saw (`looks`, the latest 512). Without `tuning` the
    division stays as it starts.

    Args:
        budget_bytes: what all three may use, each byte times its price.
        block_bytes: bytes of a KV block.
        recompute_s, restore_s: seconds to compute a block again, and to bring one back.
        most: the largest each part can become: how much memory there is of each kind.
        start: the division at first; by default each gets a third of the budget, or `most`.
        prices, tuning: see there.
        blocks_per_page: device blocks that are mapped together; the device then gives and takes
            whole pages, and blocks in use are moved together for it.
        device_storage, host_storage: the bytes, (most.device_blocks + 1) and most.host_blocks
            blocks; without them only the books are kept.

    Memory: some 200 bytes per block of the device and the tier for the meter, 1 us per block of a
    request for lookups and counting.

    Raises: InputError: numbers that cannot be, a start beyond the budget, storage of other sizes.
    """

    def __init__(
        self,
        budget_bytes: int,
        *,
        block_bytes: int,
        recompute_s: float,
        restore_s: float,
        most: Division,
        start: Division | None = None,
        prices: Prices | None = None,
        tuning: Tuning | None = None,
        blocks_per_page: int = 1,
        device_storage: KVCacheMemoryPool | None = None,
        host_storage: KVCacheMemoryPool | None = None,
    ) -> None:
        for field, value in (("block_bytes", block_bytes), ("blocks_per_page", blocks_per_page)):
            if value < 1:
                raise InputError("must be at least 1", field=field, value=value)
        if not 0 <= restore_s <= recompute_s:
            remedy = "what costs more than computing is not brought back"
            raise InputError("must be 0 to recompute_s", field="restore_s", value=restore_s,
                             remedy=remedy)  # fmt: skip
        if min(most.device_blocks, most.host_blocks, most.object_bytes) < 1:
            raise InputError("every part needs at least 1", field="most", value=most)
        self.recompute_s, self.restore_s, self.tuning = recompute_s, restore_s, tuning
        self.space = space(
            budget_bytes,
            block_bytes,
            prices=prices or Prices(),
            most=most,
            step_share=(tuning or Tuning()).step_share,
            blocks_per_page=blocks_per_page,
        )
        first = start or thirds(self.space)
        # By whole pages, rounded down: the null block's page always stays.
        parked = -(-(most.device_blocks - first.device_blocks) // blocks_per_page)
        first = replace(first, device_blocks=most.device_blocks - parked * blocks_per_page)
        if not self.space.holds(first):
            remedy = "stay within the budget and `most`, with a block on the device and the host"
            raise InputError("cannot be", field="start", value=first, remedy=remedy)
        self.blocks = BlockTiers(
            most_device=most.device_blocks,
            most_host=most.host_blocks,
            device_limit=first.device_blocks,
            host_limit=first.host_blocks,
            blocks_per_page=blocks_per_page,
            device_storage=device_storage,
            host_storage=host_storage,
        )
        self.objects = ObjectCache(most.object_bytes, first.object_bytes)
        self._loop = TuningLoop(self.space, first, tuning, self)
        self._mark(first)

    @property
    def division(self) -> Division:
        """How the budget is divided now."""
        return self._loop.division

    @property
    def looks(self) -> deque[Look]:
        """What the loop saw and did: its latest 512 looks."""
        return self._loop.looks

    @property
    def moved_blocks(self) -> int:
        """Blocks copied so far to empty whole pages of the device."""
        return self.blocks.device.moved_blocks

    def admit(self, keys: Sequence[int], num_blocks: int | None = None) -> Admitted | None:
        """Give a request its blocks, None when it must wait; see `BlockTiers.admit`.

        May look at the division first, and move blocks for it.
        """
        if self._loop.due(self.blocks.admissions):
            self.look()
        return self.blocks.admit(keys, num_blocks)

    def publish(self, request: Admitted) -> None:
        """Say that the prompt is computed: others may hit its blocks from now on."""
        self.blocks.publish(request)

    def finish(self, request: Admitted) -> None:
        """Publish the prompt and take the blocks back."""
        self.blocks.release(request)

    def abort(self, request: Admitted) -> None:
        """Take the blocks back; what was not published was not computed."""
        self.blocks.release(request, computed=False)

    def get_object(self, key: Hashable) -> bytes | None:
        """Return a copy of an object, None when it must be made again. O(bytes)."""
        return self.objects.get(key)

    def put_object(self, key: Hashable, data: bytes, *, cost_s: float) -> bool:
        """Keep an object that took `cost_s` seconds to make; False when it is too large."""
        return self.objects.put(key, data, cost_s=cost_s)

    def value_s(self, division: Division) -> float:
        """Return the seconds that a division would have saved since the counts began.

        For the present division and those one step away: what an LRU stack of that size finds.
        Requests that wait, or that hold blocks which nobody else uses, find a little less.
        """
        device = self.blocks.meter.found_within(division.device_blocks)
        both = self.blocks.meter.found_within(division.device_blocks + division.host_blocks)
        saved_s = self.recompute_s * both - self.restore_s * (both - device)
        return saved_s + self.objects.meter.found_within(division.object_bytes)

    def look(self) -> Look:
        """Look now: move a step of the budget if it pays, and write down what was seen."""
        return self._loop.look(self.blocks.admissions)

    def divide(self, now: Division, wanted: Division) -> bool:
        """Give one part less and another more; False, and as before, when the first cannot."""
        device, host = self.blocks.device, self.blocks.host
        less = min(wanted.device_blocks, now.device_blocks)
        if device.set_limit(less) > less or host.resize(wanted.host_blocks) > wanted.host_blocks:
            host.resize(now.host_blocks)
            device.set_limit(now.device_blocks)
            return False
        self.objects.set_limit(wanted.object_bytes)
        device.set_limit(wanted.device_blocks)
        return True

    def looked(self, division: Division, *, moved: bool) -> None:
        """Count anew around another division, with half the weight of the past around the same."""
        if moved:
            self._mark(division)
        else:
            self.blocks.meter.decay(0.5)
            self.objects.meter.decay(0.5)

    def counts(self) -> HybridCounts:
        """Return what was asked and served so far."""
        blocks, objects = self.blocks, self.objects.counts()
        saved_s = self.recompute_s * blocks.device_hits
        saved_s += (self.recompute_s - self.restore_s) * blocks.restored
        return HybridCounts(
            admissions=blocks.admissions,
            refused=blocks.refused,
            queried_blocks=blocks.queried,
            device_hits=blocks.device_hits,
            restored=blocks.restored,
            written=blocks.written,
            object_hits=objects.hits,
            saved_s=saved_s + objects.saved_s,
        )

    def check(self) -> None:
        """Verify every part and the budget. O(blocks). Raises: InvariantError."""
        self.blocks.check()
        self.objects.check()
        limits = (
            self.blocks.device.limit,
            self.blocks.host.stats.capacity,
            self.objects.limit_bytes,
        )
        if Division(*limits) != self.division:
            raise InvariantError(f"hybrid: limits {limits} are not the division")
        if not self.space.holds(self.division):
            raise InvariantError("hybrid: the division is beyond the budget")

    def _mark(self, division: Division) -> None:
        self.blocks.meter.set_marks(self.space.block_marks(division))
        self.objects.meter.set_marks(self.space.object_marks(division))
