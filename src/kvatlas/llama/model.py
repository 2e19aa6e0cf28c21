"""The Llama itself: one forward pass over a batch of chunks, keys and values in the block pool.

Owns: norms, rotations, projections, logits. Leaves to others: where keys and values lie
(`attention`), which tokens run (`engine`).
Architecture: Touvron et al. 2023 (Llama), with grouped queries (Ainslie et al. 2023), rotary
positions (Su et al. 2021), RMSNorm (Zhang and Sennrich 2019), SwiGLU (Shazeer 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.errors import InputError
from kvatlas.llama.attention import PagedStorage, paged_attention
from kvatlas.llama.batch import PagedBatch, PagedChunk, make_batch
from kvatlas.llama.lazy_torch import torch
from kvatlas.llama.shape import LlamaShape
from kvatlas.llama.weights import LayerWeights, LlamaWeights


class PagedLlama:
    """A Llama without a cache of its own.

    Args:
        shape: its sizes.
        weights: its parameters, all on one device; their dtype is the one computed in.
    """

    def __init__(self, shape: LlamaShape, weights: LlamaWeights) -> None:
        self.shape = shape
        self.weights = weights

    def forward(self, chunks: Sequence[PagedChunk], storage: PagedStorage) -> torch.Tensor:
        """Compute chunks of any mix, prefill and decode, in one pass: logits [chunks, vocab_size].

        The logits are those after each chunk's last token. Keys and values of all tokens are in
        `storage` afterwards.

        Raises:
            InputError: a chunk without tokens, beyond its block table or the pool, an unknown
                token.
        """
        device = self.weights.embedding.device
        self._check(chunks, storage)
        batch = make_batch(chunks, storage.block_size, device)
        cos, sin = self._rotations(batch.positions)
        with torch.inference_mode():
            hidden = self.weights.embedding[batch.token_ids]
            for index, layer in enumerate(self.weights.layers):
                normed = self._rms_norm(hidden, layer.input_layernorm)
                hidden = hidden + self._attend(storage, index, batch, normed, layer, cos, sin)
                normed = self._rms_norm(hidden, layer.post_attention_layernorm)
                hidden = hidden + _swiglu(normed, layer)
            return self._rms_norm(hidden[batch.last], self.weights.norm) @ self.weights.head.T

    def _attend(
        self,
        storage: PagedStorage,
        index: int,
        batch: PagedBatch,
        normed: torch.Tensor,
        layer: LayerWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        def heads(matrix: torch.Tensor) -> torch.Tensor:
            return (normed @ matrix.T).unflatten(-1, (-1, self.shape.head_size))

        query = _rotate(heads(layer.q_proj), cos, sin)
        key = _rotate(heads(layer.k_proj), cos, sin)
        seen = paged_attention(storage, index, batch, query, key, heads(layer.v_proj))
        return seen.flatten(1) @ layer.o_proj.T

    def _rms_norm(self, hidden: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        mean_square = hidden.float().pow(2).mean(-1, keepdim=True)
        root = torch.rsqrt(mean_square + self.shape.rms_norm_eps)
        return scale * (hidden.float() * root).to(hidden.dtype)

    def _rotations(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, each [T, 1, head_size / 2]."""
        size = self.shape.head_size
        exponents = torch.arange(0, size, 2, device=positions.device).float() / size
        angles = positions[:, None].float() * (1.0 / self.shape.rope_theta**exponents)
        dtype = self.weights.embedding.dtype
        return angles.cos()[:, None].to(dtype), angles.sin()[:, None].to(dtype)

    def _check(self, chunks: Sequence[PagedChunk], storage: PagedStorage) -> None:
        for chunk in chunks:
            for what, ids, limit in (
                ("token_ids", chunk.token_ids, self.shape.vocab_size),
                ("block_ids", chunk.block_ids, storage.num_blocks),
            ):
                if len(ids) and not 0 <= min(ids) <= max(ids) < limit:
                    raise InputError(f"ids must be from 0 to below {limit}", field=what, value=ids)


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn number i of the first half of a head against number i of its second half."""
    first, second = heads.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _swiglu(normed: torch.Tensor, layer: LayerWeights) -> torch.Tensor:
    gate = torch.nn.functional.silu(normed @ layer.gate_proj.T)
    return (gate * (normed @ layer.up_proj.T)) @ layer.down_proj.T
