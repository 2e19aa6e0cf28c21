"""`GPUMemoryPool`: one large piece of memory, cut into allocations of any size.

Owns: the face: allocations, bulk calls, the pressure callback, statistics, compaction, one lock.
Leaves to others: which range serves which request (`_ranges_kernel`), the memory (`backing`),
an allocation's own face (`allocation`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError
from kvatlas.storage.arena._ranges_kernel import (
    allocate_many,
    allocate_one,
    first_not_live,
    free_many,
    free_one,
    node_of_handle,
)
from kvatlas.storage.arena._state_kernel import GROW, NONE
from kvatlas.storage.arena.allocation import (
    Allocation,
    no_allocation,
    power_of_two,
    whole,
    whole_row,
)
from kvatlas.storage.arena.backing import make_backing
from kvatlas.storage.arena.build import grown, make_arena
from kvatlas.storage.arena.calls import direct
from kvatlas.storage.arena.check import check_arena
from kvatlas.storage.arena.compaction import Compaction, compact
from kvatlas.storage.arena.statistics import ArenaStatistics, arena_statistics
from kvatlas.units import parse_bytes

__all__ = ["GPUMemoryPool"]

I64 = NDArray[np.int64]
_GRANULE = 256


class GPUMemoryPool:
    """An arena with exact best fit: the smallest free range that holds a request serves it.

    Of several of that length the one at the lowest address; what is left of it stays free, and a
    freed range merges with its free neighbours at once. O(log n) in the free ranges for each call
    (expected), 80 bytes of books per range, none of them in the memory itself, so that it may lie
    on a device. Calls may come from several threads: one lock.

    Args:
        capacity_bytes: how much memory to get, as a number or a text such as "1GiB".
        device: `cpu`, whose pages cost nothing until they are written, or a PyTorch device.
        buffer: a NumPy array or tensor to cut instead; it must live as long as the pool.
        granule: lengths and addresses are multiples of it, a power of two from 16 on. The default
            suits coalesced access on GPUs.
        on_pressure: called with the bytes of a request that does not fit (and never with one that
            is larger than the arena); it may free, and allocate too, which then fails rather than
            call it again. The request is tried once more after it. What it raises goes through.

    Raises: InputError: unusable sizes, device or buffer.
    """

    def __init__(
        self,
        capacity_bytes: int | str | None = None,
        *,
        device: str = "cpu",
        buffer: Any = None,
        granule: int = _GRANULE,
        on_pressure: Callable[[int], object] | None = None,
    ) -> None:
        granule = power_of_two(granule, "granule", 16)
        if isinstance(capacity_bytes, str):
            capacity_bytes = parse_bytes(capacity_bytes, field="capacity_bytes")
        self._backing = make_backing(capacity_bytes, device, buffer)
        origin = -self._backing.address % granule
        if self._backing.nbytes - origin < granule:
            raise InputError(
                f"holds no aligned range of {granule} bytes",
                field="capacity_bytes",
                value=self._backing.nbytes,
            )
        self._arena = make_arena(
            base=self._backing.address, nbytes=self._backing.nbytes, granule=granule
        )
        self._capacity_bytes = int(self._arena.info[0].capacity)
        self._calls = _direct_calls()
        self.on_pressure = on_pressure
        self._relieving = False
        self._pressure_calls = self._pressure_rescues = 0
        self._lock = threading.RLock()

    # What a size-class pool does otherwise.

    def _allocate_one(self, nbytes: int, alignment: int, final: bool) -> int:
        return self._calls[0](self._arena, nbytes, alignment, int(final))

    def _allocate_many(
        self, sizes: I64, alignment: int, handles: I64, start: int, final: bool
    ) -> int:
        return allocate_many(self._arena, sizes, alignment, handles, start, int(final))

    def _free_one(self, handle: int) -> bool:
        return self._calls[1](self._arena, handle)

    def _free_many(self, handles: I64) -> None:
        free_many(self._arena, handles)

    # The face.

    @property
    def capacity_bytes(self) -> int:
        """Bytes that can be handed out at most."""
        return self._capacity_bytes

    @property
    def base_address(self) -> int:
        """Address of the buffer's first byte, on its device."""
        return self._backing.address

    @property
    def device(self) -> str:
        """Where the memory lies."""
        return self._backing.device

    def allocate(self, nbytes: int, *, alignment: int = 1) -> Allocation | None:
        """Return `nbytes` whose address is a multiple of `alignment`, None when they do not fit.

        Raises: InputError for no whole number, less than a byte, or an alignment that is no power
            of two.
        """
        nbytes = whole(nbytes, "nbytes")
        if nbytes < 1:
            raise InputError("must be at least 1 byte", field="nbytes", value=nbytes)
        if alignment != 1 or type(alignment) is not int:
            alignment = power_of_two(alignment, "alignment", 1)
        with self._lock:
            handle = self._allocated(nbytes, alignment)
        return None if handle == NONE else Allocation(self, handle, nbytes)

    def allocate_many(self, sizes: ArrayLike, *, alignment: int = 1) -> I64:
        """Return the handles of allocations of `sizes`, (n,) bytes, in order; -1 where none fits.

        The same as n calls of `allocate`, some fifty times as fast. Raises: InputError, as there;
        then nothing was allocated.
        """
        asked = whole_row(sizes, "sizes")
        alignment = power_of_two(alignment, "alignment", 1)
        if asked.size and asked.min() < 1:
            raise InputError("must be whole numbers from 1 on", field="sizes")
        handles = np.empty(asked.size, np.int64)
        with self._lock:
            # What is larger than the arena can wait for the compiled code to refuse it.
            asked = np.minimum(asked, self._capacity_bytes + 1)
            start = 0
            while start < asked.size:
                start = self._allocate_many(asked, alignment, handles, start, self._is_final)
                if start < asked.size:  # it met a lack of nodes, or a request that does not fit
                    handles[start] = self._allocated(int(asked[start]), alignment)
                    start += 1
        return handles

    def free(self, allocation: Allocation) -> None:
        """Give an allocation back. Raises: InputError when it is none of this pool's, or freed."""
        if not isinstance(allocation, Allocation):
            raise InputError("is no allocation", field="allocation", value=allocation)
        if allocation._pool is not self:
            raise InputError("belongs to another pool", field="allocation", value=allocation)
        with self._lock:
            if not self._free_one(allocation.handle):
                raise no_allocation(allocation)

    def free_many(self, handles: ArrayLike) -> None:
        """Give back the allocations of `handles`.

        Raises: InputError when one is no allocation, or there twice; then nothing was freed.
        """
        which = whole_row(handles, "handles")
        with self._lock:
            bad = first_not_live(self._arena, which)
            if bad != NONE:
                raise no_allocation(int(which[bad]))
            self._free_many(which)

    def offset_of(self, handle: int) -> int:
        """Return where an allocation begins in the buffer. Raises: InputError when it is freed."""
        with self._lock:
            return int(self._arena.nodes["offset"][self._node(handle)])

    def offsets(self, handles: ArrayLike) -> I64:
        """Return where allocations begin in the buffer. Raises: InputError when one is freed."""
        which = whole_row(handles, "handles")
        with self._lock:
            bad = first_not_live(self._arena, which)
            if bad != NONE:
                raise no_allocation(int(which[bad]))
            offsets: I64 = self._arena.nodes["offset"][which & 0xFFFFFFFF]
        return offsets

    def view(self, handle: int, nbytes: int | None = None, dtype: str = "uint8") -> Any:
        """Return an allocation's bytes (the first `nbytes`) as a flat array, without a copy."""
        with self._lock:
            asked = int(self._arena.nodes["asked"][self._node(handle)])
            wanted = asked if nbytes is None else nbytes
            if not 0 <= wanted <= asked:
                raise InputError(f"the allocation has {asked}", field="nbytes", value=nbytes)
            return self._backing.view(self.offset_of(handle), wanted, dtype)

    def compact(
        self, until_bytes: int | None = None, *, pinned: Collection[int] = ()
    ) -> Compaction:
        """Slide allocations together until a free range of `until_bytes` is there, or as one.

        The stretch with the fewest bytes to move is chosen; the data moves with them. `offset` and
        `view` are right afterwards; views taken before are not. O(n) and the bytes.

        Args:
            until_bytes: the free range that is wanted; None: everything is slid down.
            pinned: handles that must stay where they are.

        Raises: InputError: a pinned handle that is no allocation.
        """
        with self._lock:
            fixed = np.array([self._node(handle) for handle in pinned], np.int64)
            while self._arena.info[0].num_unused <= self._arena.info[0].live + 1:
                self._arena = grown(self._arena)
            return compact(self._arena, self._backing, until_bytes, fixed)

    def statistics(self) -> ArenaStatistics:
        """Return the figures of this moment; O(log n)."""
        with self._lock:
            return arena_statistics(
                self._arena,
                pressure_calls=self._pressure_calls,
                pressure_rescues=self._pressure_rescues,
            )

    def check(self) -> None:
        """Verify all books; O(n), for tests. Raises: InvariantError."""
        with self._lock:
            check_arena(self._arena)

    @property
    def _is_final(self) -> bool:
        """Whether a request that does not fit now has failed: nobody else can be asked."""
        return self.on_pressure is None or self._relieving

    def _allocated(self, nbytes: int, alignment: int) -> int:
        final = self._is_final
        if nbytes > self._capacity_bytes:
            nbytes, final = self._capacity_bytes + 1, True
        handle = self._with_nodes(nbytes, alignment, final)
        if handle != NONE or final:
            return handle
        assert self.on_pressure is not None
        self._relieving = True
        self._pressure_calls += 1
        try:
            self.on_pressure(nbytes)
        finally:
            self._relieving = False
        handle = self._with_nodes(nbytes, alignment, True)
        self._pressure_rescues += handle != NONE
        return handle

    def _with_nodes(self, nbytes: int, alignment: int, final: bool) -> int:
        while (handle := self._allocate_one(nbytes, alignment, final)) == GROW:
            self._arena = grown(self._arena)
        return handle

    def _node(self, handle: int) -> int:
        node = node_of_handle(self._arena, handle)
        if node == NONE:
            raise no_allocation(handle)
        return node


@cache
def _direct_calls() -> tuple[Callable[..., int], Callable[..., bool]]:
    spare = make_arena(base=0, nbytes=4096, granule=16)
    return direct(allocate_one, spare, 1, 1, 1), direct(free_one, spare, NONE)
