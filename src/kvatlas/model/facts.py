"""What a model's layers keep per token, as plain facts.

Owns: the types that describe a model's memory. Leaves to others: reading them from a config file
(`config_json`), and turning them into pages (`pages`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kvatlas.errors import InputError

__all__ = ["LayerFacts", "LayerKind", "ModelFacts", "RecurrentState"]

LayerKind = Literal["full", "sliding", "chunked", "mla", "recurrent"]


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer that keeps something between steps.

    Attributes:
        index: the layer's place in the model.
        kind: how far back it looks; `mla` keeps one latent vector, `recurrent` a state of fixed
            size.
        kv_heads: key-value heads over all ranks; 1 for `mla`, 0 for `recurrent`.
        head_size: elements per head; for `mla` those of the latent vector and its rotary part.
        window_tokens: the window of `sliding`, the chunk of `chunked`, else 0.
    """

    index: int
    kind: LayerKind
    kv_heads: int
    head_size: int
    window_tokens: int = 0

    @property
    def elements_per_head(self) -> int:
        """Elements that one token adds per head: key and value, or the latent vector alone."""
        return self.head_size * (1 if self.kind == "mla" else 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentState:
    """The state of a Mamba-2 or gated delta net layer: a convolution's tail and a matrix per head.

    Attributes:
        kind: which of the two; they split their groups over ranks differently.
        inner_channels: convolution channels that the heads own.
        num_groups: groups that share their other convolution channels.
        channels_per_group: convolution channels per group.
        conv_tokens: tokens that the convolution remembers, its kernel minus one.
        num_heads: heads over all ranks.
        head_elements: elements of one head's matrix.
        conv_dtype_bytes: bytes per element of the convolution's tail.
        state_dtype_bytes: bytes per element of the matrices.

    Source: vllm/model_executor/layers/mamba/mamba_utils.py (0.32.0).
    """

    kind: Literal["mamba2", "gated_delta_net"]
    inner_channels: int
    num_groups: int
    channels_per_group: int
    conv_tokens: int
    num_heads: int
    head_elements: int
    conv_dtype_bytes: int = 2
    state_dtype_bytes: int = 2

    def page_bytes(self, tp: int = 1) -> int:
        """Return one rank's bytes of one state.

        Raises:
            InputError: `tp` ranks that vLLM cannot give whole heads and groups.
        """
        groups = self.num_groups
        if self.kind == "mamba2" and groups == 1:
            groups = tp  # each rank holds a copy of the only group
        channels = self.inner_channels + groups * self.channels_per_group
        if channels % tp or self.num_heads % tp or groups % tp:
            whole = self.num_heads if groups == tp else math.gcd(self.num_heads, groups)
            raise InputError(
                "the recurrent layers' heads cannot be divided over the ranks",
                field="tp",
                value=tp,
                remedy=f"use a divisor of {whole}",
            )
        conv_bytes = channels // tp * self.conv_tokens * self.conv_dtype_bytes
        return conv_bytes + self.num_heads // tp * self.head_elements * self.state_dtype_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model, as far as its KV memory is concerned.

    Attributes:
        name: what to call it.
        model_type: the `model_type` of its config.
        layers: the layers that keep something, in the model's order.
        num_attention_heads: query heads, which tensor parallelism must divide.
        max_model_len: the longest sequence that the config allows, None when it does not say.
        default_kv_dtype: the cache dtype of `auto`: "auto" (16 bits) or what the checkpoint asks.
        recurrent: the state of the `recurrent` layers, None where there are none.
        source: where the facts come from.
    """

    name: str
    model_type: str
    layers: tuple[LayerFacts, ...]
    num_attention_heads: int
    max_model_len: int | None = None
    default_kv_dtype: str = "auto"
    recurrent: RecurrentState | None = None
    source: str = ""

    @property
    def kinds(self) -> dict[LayerKind, int]:
        """Layers of each kind, in the order in which the kinds appear."""
        counts: dict[LayerKind, int] = {}
        for layer in self.layers:
            counts[layer.kind] = counts.get(layer.kind, 0) + 1
        return counts
