"""The tensors of attention and recurrent layers.

Owns: projections, their biases, norms of queries and keys, convolutions. Leaves to others: which
layers there are (`kvatlas.model`), MLPs (`parameters`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvatlas.budget.structure import Structure
from kvatlas.budget.weights import Weight
from kvatlas.model.config_json import Config
from kvatlas.model.facts import LayerFacts, ModelFacts, RecurrentState

__all__ = ["mixer_weights"]


def mixer_weights(
    config: Config, facts: ModelFacts, structure: Structure, layer: int
) -> Iterator[Weight]:
    """Yield what mixes tokens in layer `layer`; nothing where nothing does.

    Raises:
        InputError: a field is missing or absurd.
    """
    kept = next((each for each in facts.layers if each.index == layer), None)
    if kept is None:
        return
    hidden = config.count("hidden_size")
    if kept.kind == "recurrent":
        if facts.recurrent is not None:
            yield from _recurrent(config, facts.recurrent, layer, hidden)
    elif kept.kind == "mla":
        yield from _latent_attention(config, facts, layer, hidden)
    else:
        yield from _attention(config, facts, structure, kept, hidden)


def _attention(
    config: Config, facts: ModelFacts, structure: Structure, kept: LayerFacts, hidden: int
) -> Iterator[Weight]:
    heads, size, layer = facts.num_attention_heads, kept.head_size, kept.index
    queries = heads * size * (2 if structure.gated_queries else 1)
    keys = kept.kv_heads * size
    yield _matrix(layer, queries, hidden)
    yield _keys(layer, 2 * keys, hidden, kept.kv_heads)
    yield _matrix(layer, hidden, heads * size)
    if structure.qkv_bias == "yes" or (
        structure.qkv_bias == "config" and _wants_bias(config, structure)
    ):
        yield _vector(layer, queries, "tensor")
        yield _keys(layer, 2 * keys, 1, kept.kv_heads, linear=False)
    if structure.o_bias == "config" and _wants_bias(config, structure):
        yield _vector(layer, hidden)
    norm = structure.qk_norm
    if norm == "config":
        norm = "head" if config.values.get("use_qk_norm") else "no"
    if norm == "head":
        yield _vector(layer, 2 * size)
    elif norm == "all":
        yield _vector(layer, heads * size, "tensor")
        yield _keys(layer, keys, 1, kept.kv_heads, linear=False)
    if structure.sinks:
        yield _vector(layer, heads, "tensor")


def _wants_bias(config: Config, structure: Structure) -> bool:
    found = config.values.get("attention_bias")
    return structure.bias_default if found is None else bool(found)


def _latent_attention(
    config: Config, facts: ModelFacts, layer: int, hidden: int
) -> Iterator[Weight]:
    """Yield DeepSeek's attention: every rank compresses alone, and expands for its own heads."""
    heads = facts.num_attention_heads
    latent, rotary = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    plain, values = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    rank = config.optional_count("q_lora_rank")
    if rank:
        yield _matrix(layer, rank, hidden, whole=True)
        yield _vector(layer, rank)
    yield _matrix(layer, heads * (plain + rotary), rank or hidden)
    yield _matrix(layer, latent + rotary, hidden, whole=True)
    yield _vector(layer, latent)
    yield replace(_matrix(layer, heads * (plain + values), latent), absorbed=True)
    yield _matrix(layer, hidden, heads * values)
    if config.values.get("attention_bias"):
        yield _vector(layer, (rank or 0) + latent + rotary + hidden)


def _recurrent(config: Config, state: RecurrentState, layer: int, hidden: int) -> Iterator[Weight]:
    inner, heads = state.inner_channels, state.num_heads
    shared = state.num_groups * state.channels_per_group
    kernel = state.conv_tokens + 1
    # With one group for all heads, every rank holds its channels.
    among = state.num_groups > 1 or state.kind != "mamba2"
    delta_net = state.kind == "gated_delta_net"
    own = 2 * inner + (2 * heads if delta_net else heads)
    yield Weight(part="recurrent", layer=layer, outputs=own, inputs=hidden, split="tensor")
    yield _grouped(layer, shared, hidden, among=among)
    yield Weight(part="recurrent", layer=layer, outputs=hidden, inputs=inner, split="tensor")
    yield Weight(
        part="recurrent", layer=layer, outputs=inner, inputs=kernel, split="tensor", linear=False
    )
    yield _grouped(layer, shared, kernel, among=among, linear=False)
    # Decay and time step, and Mamba's skip; then the norm before the output.
    scalars = 2 * heads if delta_net else 3 * heads
    yield Weight(part="recurrent", layer=layer, outputs=scalars, split="tensor", linear=False)
    if delta_net:
        yield Weight(part="recurrent", layer=layer, outputs=inner // heads, linear=False)
        return
    yield Weight(part="recurrent", layer=layer, outputs=inner, split="tensor", linear=False)
    conv_bias = "mamba_conv_bias" if config.model_type == "granitemoehybrid" else "use_conv_bias"
    if config.values.get(conv_bias, True):
        yield Weight(part="recurrent", layer=layer, outputs=inner, split="tensor", linear=False)
        yield _grouped(layer, shared, 1, among=among, linear=False)
    bias = "mamba_proj_bias" if config.model_type == "granitemoehybrid" else "use_bias"
    if config.values.get(bias):
        yield Weight(part="recurrent", layer=layer, outputs=own, split="tensor", linear=False)
        yield _grouped(layer, shared, 1, among=among, linear=False)
        yield Weight(part="recurrent", layer=layer, outputs=hidden, linear=False)


def _grouped(layer: int, outputs: int, inputs: int, *, among: bool, linear: bool = True) -> Weight:
    return Weight(
        part="recurrent",
        layer=layer,
        outputs=outputs,
        inputs=inputs,
        split="tensor" if among else "whole",
        linear=linear,
    )


def _matrix(layer: int, outputs: int, inputs: int, *, whole: bool = False) -> Weight:
    return Weight(
        part="attention",
        layer=layer,
        outputs=outputs,
        inputs=inputs,
        split="whole" if whole else "tensor",
    )


def _keys(layer: int, outputs: int, inputs: int, heads: int, *, linear: bool = True) -> Weight:
    return Weight(
        part="attention",
        layer=layer,
        outputs=outputs,
        inputs=inputs,
        split="kv heads",
        heads=heads,
        linear=linear,
    )


def _vector(layer: int, size: int, split: str = "whole") -> Weight:
    return Weight(
        part="attention",
        layer=layer,
        outputs=size,
        split="tensor" if split == "tensor" else "whole",
        linear=False,
    )
