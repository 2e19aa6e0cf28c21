"""`BlockTiers`: a request's blocks from the device, from a host tier below it, or fresh.

Owns: lookups over both, write-back of what the device evicts, restoring, publishing, and counting
how deep lookups reach. Leaves to others: how large each part is (`hybrid_allocator`), parking
(`device_blocks`), the index of the tier (`kvatlas.tiers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kvatlas.defrag import MemoryDefragmenter
from kvatlas.engine import BlockPool
from kvatlas.errors import InputError, InvariantError
from kvatlas.pressure.hybrid.device_blocks import DeviceBlocks
from kvatlas.pressure.hybrid.stack_meter import StackMeter
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers import HostTier

__all__ = ["Admitted", "BlockTiers"]


@dataclass(slots=True, eq=False)
class Admitted:
    """A request that holds blocks.

    Attributes:
        block_ids: its block table. Blocks may be renamed when the division of memory changes, so
            read it again after each `admit`.
        device_hits: leading blocks that were on the device; restored: those after them that came
            back from the host tier. Everything behind must be computed.
        keys: of its full prompt blocks; published: whether others may hit all of them.
    """

    block_ids: list[int]
    device_hits: int
    restored: int
    keys: tuple[int, ...]
    published: bool = False


class BlockTiers:
    """A device pool of at most `device_limit` blocks above a host tier of `host_limit`.

    Args:
        most_device, most_host: blocks that there can ever be.
        device_limit, host_limit: blocks in use at first.
        blocks_per_page: device blocks that are mapped together.
        device_storage, host_storage: bytes of (most_device + 1) and most_host blocks, or none.

    Attributes:
        device, host: the parts; meter: how deep in their common LRU stack lookups found blocks.
        queried, device_hits, restored, written, admissions, refused: counts so far.

    Raises: InputError: storages of other sizes, or only one.
    """

    def __init__(
        self,
        *,
        most_device: int,
        most_host: int,
        device_limit: int,
        host_limit: int,
        blocks_per_page: int = 1,
        device_storage: KVCacheMemoryPool | None = None,
        host_storage: KVCacheMemoryPool | None = None,
    ) -> None:
        self._storages = _both(device_storage, host_storage, most_device + 1, most_host)
        self.pool = BlockPool(most_device + 1)
        self.device = DeviceBlocks(
            self.pool,
            device_limit,
            blocks_per_page=blocks_per_page,
            defragmenter=MemoryDefragmenter(self.pool, device_storage, self._stays),
            on_evict=self._write_back,
            on_renamed=self._rename,
        )
        self.host = HostTier(most_host)
        self.host.resize(host_limit)
        self.meter = StackMeter((most_device + most_host,))
        self._running: list[Admitted] = []
        self.admissions = self.refused = self.queried = 0
        self.device_hits = self.restored = self.written = 0

    def admit(self, keys: Sequence[int], num_blocks: int | None = None) -> Admitted | None:
        """Give a request its blocks, what is cached with its content; None when it must wait.

        O(blocks of the request + blocks that lose content).

        Args:
            keys: of the full blocks of its prompt in order, each naming the whole prefix.
            num_blocks: blocks that it needs in all, at least as many as keys.

        Raises: InputError: no block or fewer than keys, a key twice, more than there can ever be.
        """
        total = len(keys) if num_blocks is None else num_blocks
        if total < max(1, len(keys)):
            raise InputError("fewer than keys, or none", field="num_blocks", value=total)
        if total > self.device.max_blocks:
            remedy = f"the device has {self.device.max_blocks:,} blocks at most"
            raise InputError("never fits", field="num_blocks", value=total, remedy=remedy)
        if len(set(keys)) != len(keys):
            raise InputError("a key twice", field="keys")
        hits = self._on_device(keys)
        new = total - len(hits)
        idle = int((self.pool.state.blocks["ref_count"][hits] == 0).sum())
        if new > self.pool.get_num_free_blocks() - idle:
            self.refused += 1
            return None
        slots = self.host.acquire(list(keys[len(hits) :]))
        self.pool.touch(hits)
        self._write_back(self.pool.first_free_blocks(new))
        ids = self.pool.get_new_blocks(new)
        if ids is None:
            raise InvariantError("hybrid: blocks that were counted are not there")
        restored = len(slots)
        if self._storages and restored:
            device, host = self._storages
            host.copy_to(device, slots, ids[:restored])
        self.host.release(slots)
        back = keys[len(hits) : len(hits) + restored]
        self.host.discard(list(back))  # one copy is enough: the tier's room is for others
        self.pool.cache_full_blocks(ids[:restored], back)
        self._measure(keys)
        self.admissions += 1
        self.queried += len(keys)
        self.device_hits += len(hits)
        self.restored += restored
        request = Admitted(hits + ids, len(hits), restored, tuple(keys))
        self._running.append(request)
        return request

    def publish(self, request: Admitted) -> None:
        """Say that the prompt is computed: others may hit its blocks from now on."""
        self._require_running(request)
        if not request.published:
            request.published = True
            known = request.device_hits + request.restored
            ids = request.block_ids[known : len(request.keys)]
            self.pool.cache_full_blocks(ids, request.keys[known:])

    def release(self, request: Admitted, *, computed: bool = True) -> None:
        """Take the blocks back, the deepest to be evicted first; `computed`: publish before."""
        self._require_running(request)
        if computed:
            self.publish(request)
        self._running.remove(request)
        self.pool.free_blocks(request.block_ids[::-1])

    def check(self) -> None:
        """Verify both parts and who owns which block; O(blocks). Raises: InvariantError."""
        for part in (self.pool, self.host, self.meter):
            part.check()
        owners = np.zeros(self.pool.num_gpu_blocks, np.int64)
        for ids in (self.device.parked, *(request.block_ids for request in self._running)):
            np.add.at(owners, np.array(ids, np.int64), 1)
        held = self.pool.state.blocks["ref_count"][: self.pool.num_gpu_blocks]
        if (owners[1:] != held[1:]).any():
            raise InvariantError("hybrid: a block has other owners than its ref count says")

    def _on_device(self, keys: Sequence[int]) -> list[int]:
        ids: list[int] = []
        for key in keys:
            found = self.pool.get_cached_block(key)
            if found is None:
                break
            ids += found
        return ids

    def _measure(self, keys: Sequence[int]) -> None:
        for key in keys:
            self.meter.count(key)
        for key in reversed(keys):  # deep blocks are evicted first: the beginning was used last
            self.meter.use(key)

    def _write_back(self, ids: list[int]) -> None:
        """Write what these blocks have cached to the host tier before they lose it."""
        keys = self.pool.state.blocks["key"][np.array(ids, np.int64)].tolist()
        last = {key: block for key, block in zip(keys, ids, strict=True) if key >= 0}
        if not last:
            return
        # What goes last was used last: it is written first, should the tier be too small for all,
        # and is the youngest there.
        reserved = self.host.reserve(list(last)[::-1])
        sources = np.array(list(last.values())[::-1])[: reserved.slots.size][reserved.fresh]
        if self._storages and sources.size:
            device, host = self._storages
            device.copy_to(host, sources, reserved.slots[reserved.fresh])
        self.host.release(reserved.slots)
        self.written += int(sources.size)

    def _rename(self, renamed: Callable[[list[int]], list[int]]) -> None:
        for request in self._running:
            request.block_ids = renamed(request.block_ids)

    def _stays(self) -> tuple[int, ...]:
        return self.device.parked

    def _require_running(self, request: Admitted) -> None:
        if request not in self._running:
            raise InputError("is not running", field="request", remedy="was it released before?")


def _both(
    device: KVCacheMemoryPool | None, host: KVCacheMemoryPool | None, of_device: int, of_host: int
) -> tuple[KVCacheMemoryPool, KVCacheMemoryPool] | None:
    if device is None and host is None:
        return None
    if device is None or host is None:
        raise InputError("give both storages or none", field="host_storage")
    for field, pool, wanted in (
        ("device_storage", device, of_device),
        ("host_storage", host, of_host),
    ):
        if pool.num_blocks != wanted:
            raise InputError(f"must have {wanted:,} blocks", field=field, value=pool.num_blocks)
    return device, host
