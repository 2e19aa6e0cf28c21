"""Attention over blocks: new keys and values go into their slots, then every token looks back.

Owns: the only code that touches the pool's bytes during a pass. Leaves to others: which slots are
whose (`batch`), projections and rotations (`model`), and the memory itself (`kvatlas.storage`).
"""

from __future__ import annotations

from typing import Any, Protocol

from kvatlas.llama.batch import AttentionGroup, PagedBatch
from kvatlas.llama.lazy_torch import torch


class PagedStorage(Protocol):
    """Where keys and values lie; `kvatlas.storage.KVCacheMemoryPool` is one."""

    @property
    def num_blocks(self) -> int:
        """Blocks, the null block included."""
        ...

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        ...

    @property
    def num_layers(self) -> int:
        """Layers."""
        ...

    def key(self, layer: int) -> Any:
        """Return a view [num_blocks, block_size, kv_heads, head_size], NumPy or torch."""
        ...

    def value(self, layer: int) -> Any:
        """Return a view of the same shape."""
        ...


def paged_attention(
    storage: PagedStorage,
    layer: int,
    batch: PagedBatch,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """Store the batch's keys and values, then attend: [T, heads, head_size] -> the same.

    All are stored before any is read, because a request may hit a block that another one fills in
    this very step. What is stored takes the pool's dtype; attention computes in the query's.
    """
    stored_keys = torch.as_tensor(storage.key(layer))
    stored_values = torch.as_tensor(storage.value(layer))
    where = (batch.blocks, batch.slots)
    stored_keys[where] = key.to(stored_keys.dtype)
    stored_values[where] = value.to(stored_values.dtype)
    out = torch.empty_like(query)
    for group in batch.groups:
        out[group.rows] = torch.nn.functional.scaled_dot_product_attention(
            query[group.rows].transpose(1, 2),
            _read(stored_keys, group, query.dtype),
            _read(stored_values, group, query.dtype),
            attn_mask=group.visible,
            enable_gqa=True,
        ).transpose(1, 2)
    return out


def _read(stored: torch.Tensor, group: AttentionGroup, dtype: torch.dtype) -> torch.Tensor:
    """Gather a group's slots in token order: [B, kv_heads, S, head_size].

    Slots nobody has written hold whatever was there before. The mask alone would not keep a NaN
    out (0 * NaN is NaN), so they are read as zeros.
    """
    gathered = stored[group.tables].flatten(1, 2).to(dtype)
    return gathered.masked_fill(~group.written[:, :, None, None], 0.0).transpose(1, 2)
