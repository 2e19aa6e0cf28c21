"""How the K/V of a block lies in memory: layouts by name, and where the pieces of a block are.

Owns: the registry, the order of the axes, bytes of a block, pieces. Leaves to others: memory
(`host`, `device`), views (`pool`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from kvatlas.registry import named

__all__ = ["LAYOUTS", "BlockShape", "Layout", "Placed", "layout"]

LOGICAL = ("block", "kv", "slot", "head", "dim")
"""The axes of one layer as every layout shows them; `kv` is 0 for keys, 1 for values."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One order of the axes, the slowest first.

    Attributes:
        name: what users type.
        summary: one sentence.
        source: which engine stores its cache so.
        axes: `layer`, `block`, `kv`, `slot`, `head`, `dim`, each once.
    """

    name: str
    summary: str
    source: str
    axes: tuple[str, ...]


_BEFORE = "vLLM before the named layouts of RFC 42082"
_NAMED = "vLLM 0.32, vllm/v1/kv_cache_layout.py: K and V of a head's slot lie side by side (C)"


def _named(name: str, summary: str) -> Layout:
    """Return one of vLLM's layouts, whose letters are its axes: C is keys, then values."""
    letters = {"L": "layer", "B": "block", "H": "head", "N": "slot"}
    axes = tuple(letters[letter] for letter in name if letter != "C")
    return Layout(name, summary, _NAMED, (*axes, "kv", "dim"))


_ALL = (
    Layout(
        "block",
        "a tensor per layer, in it a block's keys and then its values, slot by slot (NHD)",
        f"{_BEFORE}: Triton, FlashInfer: (num_blocks, 2, block_size, num_kv_heads, head_size)",
        ("layer", "block", "kv", "slot", "head", "dim"),
    ),
    Layout(
        "head",
        "as `block`, but a head's slots lie together (HND)",
        f"{_BEFORE}: FlashInfer with VLLM_KV_CACHE_LAYOUT=HND",
        ("layer", "block", "kv", "head", "slot", "dim"),
    ),
    Layout(
        "layer",
        "a plane of keys and a plane of values per layer",
        f"{_BEFORE}: FlashAttention: (2, num_blocks, block_size, num_kv_heads, head_size); SGLang",
        ("layer", "kv", "block", "slot", "head", "dim"),
    ),
    Layout(
        "cross-layer",
        "a block's keys and values of all layers in one span: one copy moves a block",
        f"{_BEFORE}: cross-layer blocks for KV connectors",
        ("block", "layer", "kv", "slot", "head", "dim"),
    ),
    Layout(
        "nano-vllm",
        "all keys, then all values",
        "nano-vLLM: (2, num_layers, num_blocks, block_size, num_kv_heads, head_dim)",
        ("kv", "layer", "block", "slot", "head", "dim"),
    ),
    _named("LBNHC", "a tensor per layer, slot by slot; vLLM's default"),
    _named("LBHNC", "a tensor per layer, in a block head by head"),
    _named("LHBNC", "a plane per head of a layer"),
    _named("BLNHC", "a block's layers in one span, slot by slot"),
    _named("BLHNC", "a block's layers in one span, head by head"),
    _named("BHLNC", "a block in one span, in it a head's layers together"),
)

LAYOUTS: Mapping[str, Layout] = {each.name: each for each in _ALL}
"""Every layout by name."""


def layout(name: str) -> Layout:
    """Return the layout of that name. Raises: InputError that lists those there are."""
    return named(LAYOUTS, name, "layout", field="layout")


@dataclass(frozen=True)
class BlockShape:
    """What one block holds: `block_size` slots of keys and values in every layer."""

    num_layers: int
    block_size: int
    kv_heads: int
    head_size: int
    itemsize: int

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The length of every axis but `block`."""
        return {
            "layer": self.num_layers,
            "kv": 2,
            "slot": self.block_size,
            "head": self.kv_heads,
            "dim": self.head_size,
        }

    @cached_property
    def bytes_per_block(self) -> int:
        """Layers x 2 x slots x heads x head size x bytes of a number."""
        return prod(self.sizes.values()) * self.itemsize


@dataclass(frozen=True)
class Placed:
    """`num_blocks` blocks of one shape, laid out along `axes` without gaps."""

    shape: BlockShape
    num_blocks: int
    axes: tuple[str, ...]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The length of each axis, in their order."""
        sizes = {**self.shape.sizes, "block": self.num_blocks}
        return tuple(sizes[axis] for axis in self.axes)

    @cached_property
    def strides(self) -> Mapping[str, int]:
        """Bytes from one index of an axis to the next."""
        found, step = {}, self.shape.itemsize
        for axis, length in zip(reversed(self.axes), reversed(self.lengths), strict=True):
            found[axis] = step
            step *= length
        return found

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """The axes after `block`: one contiguous span of a block."""
        return self.axes[self.axes.index("block") + 1 :]

    @cached_property
    def planes(self) -> tuple[str, ...]:
        """The axes before `block`."""
        return self.axes[: self.axes.index("block")]

    @cached_property
    def cuts(self) -> tuple[tuple[str, ...], ...]:
        """Ways to split a block along axes into ever smaller pieces, each one span."""
        return tuple((*self.planes, *self.inner[:count]) for count in range(1, len(self.inner)))

    @cached_property
    def rows(self) -> Placed:
        """A buffer of rows, one block in each, its bytes in this layout's order; however many."""
        return Placed(self.shape, 1, ("block", *self.planes, *self.inner))


@lru_cache(maxsize=256)
def piece_offsets(placed: Placed, axes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return where the pieces of block 0 begin: one per index of `axes`, the last fastest."""
    found = np.zeros(1, np.int64)
    for axis in axes:
        steps = np.arange(placed.shape.sizes[axis], dtype=np.int64) * placed.strides[axis]
        found = (found[:, None] + steps[None, :]).reshape(-1)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=256)
def common_pieces(one: Placed, other: Placed) -> tuple[str, ...]:
    """Return the fewest axes to split a block along so that every piece is one span in both.

    Of two equal layouts these are the axes before `block`; where only the order of slots and heads
    differs a piece is one head of one slot.
    """
    first, second = (placed.planes + placed.inner for placed in (one, other))
    split = max(len(one.planes), len(other.planes))
    while first[split:] != second[split:]:
        split += 1
    return first[:split]
