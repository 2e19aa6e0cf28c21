"""`KVCacheMemoryPool`: the keys and values behind block ids, and everything that moves them.

Owns: the public face, views, accounting. Leaves to others: layouts (`layouts`), checking and
ordering ids (`moves`), memory (`host`, `device`), who owns which block (`kvatlas.engine`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from operator import index as as_int
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.storage import exchange, layouts
from kvatlas.storage.check import check_books, check_layers
from kvatlas.storage.device import DeviceMemory, import_torch
from kvatlas.storage.digest import digests
from kvatlas.storage.dtypes import number
from kvatlas.storage.host import HostMemory
from kvatlas.storage.layouts import BlockShape, Placed
from kvatlas.storage.moves import IdBook, IdsLike, same_length
from kvatlas.storage.statistics import StorageStats
from kvatlas.storage.views import layer_view

__all__ = ["KVCacheMemoryPool"]

_BACKENDS = ("numpy", "torch")


class KVCacheMemoryPool:
    """Keys and values of `num_blocks` blocks in every layer, in one allocation.

    Every layout shows a layer as (num_blocks, 2, block_size, kv_heads, head_size), without a copy.
    Blocks are named by id, from 0; which of them are in use is not known here. Fresh memory is
    zero. Not for several threads at once.

    Args:
        num_blocks: how many blocks.
        num_layers, block_size, kv_heads, head_size: what one block holds.
        dtype: float32, float16; with torch also bfloat16, float8_e4m3fn, float8_e5m2 (or fp32,
            fp16, bf16, fp8, fp8_e5m2).
        layout: a name of `kvatlas.storage.LAYOUTS`.
        backend: `numpy` or `torch`; what views and buffers are.
        device: `cpu`, or what torch calls an accelerator (`cuda`, `cuda:1`).
        zero_on_free: `free` fills blocks with zeros, and `move` those that it leaves.

    Memory: the blocks to the last byte (`total_bytes`) and 16 bytes per block to check ids with.

    Raises:
        InputError: a size below 1, an unknown name, a dtype that the backend does not have, torch
            or the device missing, no memory.
    """

    def __init__(
        self,
        num_blocks: int,
        *,
        num_layers: int,
        block_size: int,
        kv_heads: int,
        head_size: int,
        dtype: str = "float32",
        layout: str = "block",
        backend: str = "numpy",
        device: str = "cpu",
        zero_on_free: bool = False,
    ) -> None:
        sizes = {
            "num_blocks": num_blocks,
            "num_layers": num_layers,
            "block_size": block_size,
            "kv_heads": kv_heads,
            "head_size": head_size,
        }
        for field, value in sizes.items():
            sizes[field] = _whole(value)
            if sizes[field] < 1:
                raise InputError("a whole number from 1 on is needed", field=field, value=value)
        num_blocks, num_layers, block_size, kv_heads, head_size = sizes.values()
        if backend not in _BACKENDS:
            raise InputError(
                "unknown backend", field="backend", value=backend, remedy="use numpy or torch"
            )
        if backend == "numpy" and device != "cpu":
            raise InputError(
                "NumPy's memory is the CPU's", field="device", value=device, remedy="use torch"
            )
        self.num_blocks, self.backend, self.device = num_blocks, backend, str(device)
        self.num_layers, self.block_size = num_layers, block_size
        self.kv_heads, self.head_size = kv_heads, head_size
        self.zero_on_free = zero_on_free
        self.number = number(dtype, backend)
        self.layout = layouts.layout(layout)
        shape = BlockShape(num_layers, block_size, kv_heads, head_size, self.number.itemsize)
        self.placed = Placed(shape, num_blocks, self.layout.axes)
        if backend == "torch":
            import_torch()
        self.memory: HostMemory | DeviceMemory = (
            HostMemory(self.placed)
            if self.device == "cpu"
            else DeviceMemory(self.placed, self.device)
        )
        self.book = IdBook(num_blocks)
        self._stats = StorageStats(shape.bytes_per_block)

    @property
    def dtype(self) -> str:
        """The name of the number format."""
        return self.number.name

    @property
    def bytes_per_block(self) -> int:
        """Layers x 2 x block size x heads x head size x bytes of a number."""
        return self.placed.shape.bytes_per_block

    @property
    def total_bytes(self) -> int:
        """All blocks, to the last byte."""
        return self.num_blocks * self.bytes_per_block

    @cached_property
    def layers(self) -> tuple[Any, ...]:
        """A view per layer: (num_blocks, 2, block_size, kv_heads, head_size)."""
        return tuple(
            layer_view(self.memory.bytes, self.placed, self.number, self.backend, index)
            for index in range(self.num_layers)
        )

    def key(self, layer: int) -> Any:
        """Return the keys of a layer, a view (num_blocks, block_size, kv_heads, head_size)."""
        return self._layer(layer)[:, 0]

    def value(self, layer: int) -> Any:
        """Return the values of a layer, a view (num_blocks, block_size, kv_heads, head_size)."""
        return self._layer(layer)[:, 1]

    def copy(self, source_ids: IdsLike, target_ids: IdsLike) -> None:
        """Copy blocks; a source may have several targets, no block is both.

        O(bytes); neighbours are copied as one run.

        Raises:
            InputError: no such block, a target twice, a block that is source and target.
        """
        sources, targets = self._pairs(source_ids, target_ids)
        self.book.disjoint(sources, targets)
        self.memory.copy(sources, targets)
        self._count(copied_blocks=len(sources))

    def move(self, source_ids: IdsLike, target_ids: IdsLike) -> None:
        """Move blocks: every target gets what its source held before the call.

        Any partial permutation: chains go in an order that reads first, of a cycle one block is
        staged. A block that is left and not filled keeps its bytes, or is zeroed where the pool
        zeroes on free. O(bytes + n log n).

        Raises:
            InputError: no such block, a source or a target twice.
        """
        sources = self.book.ids(source_ids, "source_ids", once=True)
        targets = self.book.ids(target_ids, "target_ids", once=True)
        same_length(sources, targets)
        moves = self.book.moves(sources, targets)
        staged = self.memory.move(moves)
        moved = int((sources != targets).sum())
        left = np.setdiff1d(sources, targets) if self.zero_on_free else sources[:0]
        if len(left):
            self.memory.zero(left)
        self._count(moved_blocks=moved, staged_bytes=staged, zeroed_blocks=len(left))

    def copy_to(self, other: KVCacheMemoryPool, source_ids: IdsLike, target_ids: IdsLike) -> None:
        """Copy blocks to another pool of the same block shape and dtype, of any layout and device.

        O(bytes). Between a device and this machine, through a buffer of 64 MiB.

        Raises:
            InputError: another shape or dtype, the pool itself, no such block, a target twice.
        """
        self._require_same_blocks(other)
        sources = self.book.ids(source_ids, "source_ids")
        targets = other.book.ids(target_ids, "target_ids", once=True)
        same_length(sources, targets)
        exchange.copy_to(self.memory, other.memory, sources, targets)
        self._count(copied_blocks=len(sources))
        other._count(received_blocks=len(sources))

    def gather(self, block_ids: IdsLike, out: Any = None) -> Any:
        """Return blocks as the rows of one buffer (n, bytes_per_block) of uint8.

        A row is the block's bytes in the layout's own order: that of its axes without `block`,
        which `block`, `layer` and `cross-layer` share. With `out`, a C-contiguous buffer of the
        backend, nothing is allocated. O(bytes).

        Raises:
            InputError: no such block, an `out` of another shape.
        """
        ids = self.book.ids(block_ids, "block_ids")
        wanted = (len(ids), self.bytes_per_block)
        if out is None:
            out = exchange.fresh_rows(*wanted, backend=self.backend, device=self.device)
        else:
            exchange.require_rows(out, *wanted)
        self.memory.gather(ids, exchange.as_memory(self.memory, out, "out"))
        self._count(gathered_blocks=len(ids))
        return out

    def scatter(self, block_ids: IdsLike, buffer: Any) -> None:
        """Fill blocks from the rows of a buffer, in the order that `gather` gives them. O(bytes).

        Raises:
            InputError: no such block, one twice, a buffer of another shape.
        """
        ids = self.book.ids(block_ids, "block_ids", once=True)
        rows = exchange.as_memory(
            self.memory, exchange.require_rows(buffer, len(ids), self.bytes_per_block), "buffer"
        )
        self.memory.scatter(ids, rows, self.placed.rows)
        self._count(scattered_blocks=len(ids))

    def free(self, block_ids: IdsLike) -> None:
        """Say that nobody needs these blocks any more; zeroes them where the pool does so.

        Raises:
            InputError: no such block, one twice.
        """
        ids = self.book.ids(block_ids, "block_ids", once=True)
        if self.zero_on_free:
            self.memory.zero(ids)
        self._count(freed_blocks=len(ids), zeroed_blocks=len(ids) if self.zero_on_free else 0)

    def zero(self, block_ids: IdsLike) -> None:
        """Fill blocks with zeros. Raises: InputError for no such block, or one twice."""
        ids = self.book.ids(block_ids, "block_ids", once=True)
        self.memory.zero(ids)
        self._count(zeroed_blocks=len(ids))

    def digest(self, block_ids: IdsLike) -> NDArray[np.uint64]:
        """Return 64 bits per block that tell its content: equal content, equal digest (n,).

        xxHash64 of its bytes layer by layer, keys and then values, slot by slot: the same in every
        layout, backend and device. O(bytes), a few times slower than a copy.
        """
        ids = self.book.ids(block_ids, "block_ids")
        found = digests(self.memory, ids)
        self._count(digested_blocks=len(ids))
        return found

    def stats(self) -> StorageStats:
        """Return what was done so far."""
        return self._stats

    def check(self) -> None:
        """Check that the views cover the memory exactly, and the books. Raises InvariantError."""
        check_layers(self.memory.bytes, self.placed, self.layers)
        check_books(self.book, self._stats, self.placed, zero_on_free=self.zero_on_free)

    def _layer(self, index: int) -> Any:
        if not 0 <= _whole(index) < self.num_layers:
            raise InputError(
                "no such layer",
                field="layer",
                value=index,
                remedy=f"layers run from 0 to {self.num_layers - 1}",
            )
        return self.layers[index]

    def _pairs(self, source_ids: IdsLike, target_ids: IdsLike) -> tuple[Any, Any]:
        sources = self.book.ids(source_ids, "source_ids")
        targets = self.book.ids(target_ids, "target_ids", once=True)
        same_length(sources, targets)
        return sources, targets

    def _require_same_blocks(self, other: KVCacheMemoryPool) -> None:
        """Raise InputError when a block of the one is no block of the other."""
        if self is other:
            raise InputError("a pool cannot be its own target", field="other", remedy="use copy")
        for name in ("num_layers", "block_size", "kv_heads", "head_size", "dtype"):
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                raise InputError(
                    f"the pools' blocks differ in {name}",
                    field="other",
                    value=there,
                    remedy=f"the source's is {here}",
                )

    def _count(self, **more: int) -> None:
        now = {name: getattr(self._stats, name) + count for name, count in more.items()}
        self._stats = replace(self._stats, calls=self._stats.calls + 1, **now)


def _whole(given: object) -> int:
    """Return a whole number, a NumPy integer too, as an int; -1 for anything else."""
    try:
        return -1 if isinstance(given, bool) else as_int(given)  # type: ignore[arg-type]
    except TypeError:
        return -1
