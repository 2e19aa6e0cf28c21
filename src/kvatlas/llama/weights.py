"""The parameters of a Llama under the names that checkpoints give them.

Owns: `LlamaWeights`: from a state dict, or drawn at random. Leaves to others: the computation
(`model`) and reading files (a state dict is any mapping of names to tensors).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kvatlas.errors import InputError
from kvatlas.llama.lazy_torch import torch
from kvatlas.llama.shape import LlamaShape


@dataclass(frozen=True)
class LayerWeights:
    """One layer; every matrix is [outputs, inputs]."""

    input_layernorm: torch.Tensor
    q_proj: torch.Tensor
    k_proj: torch.Tensor
    v_proj: torch.Tensor
    o_proj: torch.Tensor
    post_attention_layernorm: torch.Tensor
    gate_proj: torch.Tensor
    up_proj: torch.Tensor
    down_proj: torch.Tensor


@dataclass(frozen=True)
class LlamaWeights:
    """All parameters; `head` is the embedding again where a checkpoint ties the two."""

    embedding: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: torch.Tensor

    @classmethod
    def from_state_dict(cls, shape: LlamaShape, state: Mapping[str, torch.Tensor]) -> LlamaWeights:
        """Take the parameters of a `LlamaForCausalLM`; nothing is copied.

        Raises:
            InputError: a parameter is missing or has another shape.
        """
        sizes = dict(_parameters(shape))
        if "lm_head.weight" not in state:
            state = {**state, "lm_head.weight": state.get("model.embed_tokens.weight")}
        for name, size in sizes.items():
            found = state.get(name)
            if found is None or tuple(found.shape) != size:
                raise InputError(
                    f"must be a parameter of shape {list(size)}",
                    field=name,
                    value=None if found is None else list(found.shape),
                    remedy="give the state dict of a LlamaForCausalLM of this shape",
                )
        taken = {name: state[name].detach() for name in sizes}
        return cls(
            embedding=taken["model.embed_tokens.weight"],
            layers=tuple(_layer(taken, index) for index in range(shape.num_layers)),
            norm=taken["model.norm.weight"],
            head=taken["lm_head.weight"],
        )

    @classmethod
    def random(cls, shape: LlamaShape, seed: int = 0, *, device: str = "cpu") -> LlamaWeights:
        """Draw fp32 parameters: a model that says nothing, but says it with all its context.

        Inputs of a matrix are scaled to unit variance and keys, values and outputs are made loud,
        so that what attention reads decides the next token (with the usual tiny numbers an
        untrained model answers from its last token alone, and a wrong block would go unnoticed).
        """
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for name, size in _parameters(shape):
            if len(size) == 1:
                state[name] = torch.ones(size, device=device)
            else:
                loud = 4.0 if name.endswith(("embed_tokens.weight", "v_proj.weight")) else 2.0
                gain = loud if "proj" in name or "embed" in name else 1.0
                drawn = torch.randn(size, generator=generator) * (gain / size[1] ** 0.5)
                state[name] = drawn.to(device)
        return cls.from_state_dict(shape, state)


def _parameters(shape: LlamaShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every parameter's name and shape."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_heads * shape.head_size
    keys = shape.num_kv_heads * shape.head_size
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (shape.vocab_size, hidden)
    for index in range(shape.num_layers):
        at = f"model.layers.{index}."
        yield at + "input_layernorm.weight", (hidden,)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "self_attn.q_proj.weight", (queries, hidden)
        yield at + "self_attn.k_proj.weight", (keys, hidden)
        yield at + "self_attn.v_proj.weight", (keys, hidden)
        yield at + "self_attn.o_proj.weight", (hidden, queries)
        yield at + "mlp.gate_proj.weight", (inner, hidden)
        yield at + "mlp.up_proj.weight", (inner, hidden)
        yield at + "mlp.down_proj.weight", (hidden, inner)


def _layer(state: Mapping[str, torch.Tensor], index: int) -> LayerWeights:
    at = f"model.layers.{index}."
    attention, mlp = at + "self_attn.", at + "mlp."
    return LayerWeights(
        input_layernorm=state[at + "input_layernorm.weight"],
        q_proj=state[attention + "q_proj.weight"],
        k_proj=state[attention + "k_proj.weight"],
        v_proj=state[attention + "v_proj.weight"],
        o_proj=state[attention + "o_proj.weight"],
        post_attention_layernorm=state[at + "post_attention_layernorm.weight"],
        gate_proj=state[mlp + "gate_proj.weight"],
        up_proj=state[mlp + "up_proj.weight"],
        down_proj=state[mlp + "down_proj.weight"],
    )
