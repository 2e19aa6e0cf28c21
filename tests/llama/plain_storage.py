"""The plainest storage a paged model can have: one tensor per layer, every number NaN.

A test model that reads a slot nobody has written answers NaN, and its tokens are wrong at once.
"""

from __future__ import annotations

import torch

from kvatlas.llama import LlamaShape


class PlainStorage:
    """[num_blocks, 2, block_size, kv_heads, head_size] per layer, full of NaN."""

    def __init__(self, shape: LlamaShape, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.num_layers = shape.num_layers
        size = (num_blocks, 2, block_size, shape.num_kv_heads, shape.head_size)
        self.layers = [torch.full(size, torch.nan) for _ in range(shape.num_layers)]

    def key(self, layer: int) -> torch.Tensor:
        """Return the keys of a layer."""
        return self.layers[layer][:, 0]

    def value(self, layer: int) -> torch.Tensor:
        """Return the values of a layer."""
        return self.layers[layer][:, 1]
