"""From a config to the tensors of its language model.

Owns: embeddings, norms, and which layer has which MLP or experts. Leaves to others: attention and
recurrent layers (`mixers`), biases and norms per family (`structure`), bytes (`quantization`).

Counts agree exactly with the parameters of transformers' own classes (tests/vllm), so they leave
out what is no parameter there: rotary tables, and the routers' correction biases.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.budget.mixers import mixer_weights
from kvatlas.budget.structure import STRUCTURES, Structure
from kvatlas.budget.weights import Part, Weight
from kvatlas.model.config_json import Config
from kvatlas.model.facts import ModelFacts
from kvatlas.model.recurrent import nemotron_pattern

__all__ = ["num_layers", "weights_of"]

_MOST_ELEMENTS = 1 << 40


def weights_of(config: Config, facts: ModelFacts) -> tuple[Weight, ...]:
    """Return the tensors of the language model of `config`, whose KV layout is `facts`.

    Cost: O(layers).

    Raises:
        InputError: a field is missing or absurd.
    """
    structure = STRUCTURES[facts.model_type]
    hidden = config.count("hidden_size")
    vocab = config.count("vocab_size", most=1 << 24)
    weights = [_end("embedding", vocab, hidden, linear=False)]
    for layer in range(num_layers(config)):
        weights += mixer_weights(config, facts, structure, layer)
        weights += _mlp_weights(config, structure, layer)
        weights.append(
            Weight(part="norms", layer=layer, outputs=hidden, copies=structure.norms, linear=False)
        )
    weights.append(Weight(part="norms", layer=None, outputs=hidden, linear=False))
    if not _tied(config, structure):
        weights.append(_end("output head", vocab, hidden, linear=True))
    if sum(weight.parameters for weight in weights) > _MOST_ELEMENTS:
        raise config.error("more parameters than any model has", field="hidden_size", value=hidden)
    return tuple(weights)


def num_layers(config: Config) -> int:
    """Return the layers of the language model, also of those that hold no KV."""
    if config.model_type == "nemotron_h":
        return len(nemotron_pattern(config))
    return config.count("num_hidden_layers", most=10_000)


def _end(part: Part, vocab: int, hidden: int, *, linear: bool) -> Weight:
    return Weight(
        part=part,
        layer=None,
        outputs=vocab,
        inputs=hidden,
        split="vocab",
        linear=linear,
    )


def _tied(config: Config, structure: Structure) -> bool:
    for fields in (config.values, config.whole):
        if isinstance(found := fields.get("tie_word_embeddings"), bool):
            return found and not structure.never_tied
    return structure.tied


def _mlp_weights(config: Config, structure: Structure, layer: int) -> Iterator[Weight]:
    hidden = config.count("hidden_size")
    match structure.experts:
        case "nemotron":
            letter = nemotron_pattern(config)[layer]
            if letter == "-":
                yield from _mlp(config, structure, layer, config.count("intermediate_size"))
            elif letter == "E":
                yield from _nemotron_experts(config, structure, layer, hidden)
        case "granite":
            experts = config.optional_count("num_local_experts", 0)
            if experts:
                size = config.count("intermediate_size")
                yield from _experts(config, structure, layer, experts, size)
            yield from _mlp(config, structure, layer, config.count("shared_intermediate_size"))
        case "all":
            experts = config.count("num_local_experts")
            size = config.count("intermediate_size")
            yield from _experts(config, structure, layer, experts, size)
        case "deepseek" if _is_deepseek_sparse(config, layer):
            size = config.count("moe_intermediate_size")
            experts = config.count("n_routed_experts")
            yield from _experts(config, structure, layer, experts, size)
            shared = config.optional_count("n_shared_experts", 1)
            if shared:
                yield from _mlp(config, structure, layer, shared * size, shared=True)
        case "qwen" if _is_qwen_sparse(config, layer):
            experts = config.count("num_experts")
            size = config.count("moe_intermediate_size")
            yield from _experts(config, structure, layer, experts, size)
            if structure.gated_queries:
                shared = config.count("shared_expert_intermediate_size")
                yield from _mlp(config, structure, layer, shared, shared=True)
                yield Weight(part="router", layer=layer, outputs=1, inputs=hidden)
        case "llama4" if _is_llama4_sparse(config, layer):
            size = config.count("intermediate_size")
            experts = config.count("num_local_experts")
            yield from _experts(config, structure, layer, experts, size)
            yield from _mlp(config, structure, layer, size, shared=True)
        case "llama4":
            yield from _mlp(config, structure, layer, config.count("intermediate_size_mlp"))
        case _:
            yield from _mlp(config, structure, layer, config.count("intermediate_size"))


def _mlp(
    config: Config, structure: Structure, layer: int, size: int, *, shared: bool = False
) -> Iterator[Weight]:
    part: Part = "shared experts" if shared else "mlp"
    hidden = config.count("hidden_size")
    upward = 2 if structure.gated_mlp else 1
    yield Weight(part=part, layer=layer, outputs=upward * size, inputs=hidden, split="tensor")
    yield Weight(part=part, layer=layer, outputs=hidden, inputs=size, split="tensor")
    if structure.mlp_bias and config.values.get("mlp_bias"):
        yield Weight(part=part, layer=layer, outputs=upward * size, split="tensor", linear=False)
        yield Weight(part=part, layer=layer, outputs=hidden, linear=False)


def _experts(
    config: Config,
    structure: Structure,
    layer: int,
    experts: int,
    size: int,
    width: int | None = None,
) -> Iterator[Weight]:
    """Yield the router and `experts` MLPs of `size`, between vectors of `width`."""
    hidden = config.count("hidden_size")
    width = hidden if width is None else width
    upward = 2 * size if structure.gated_mlp else size
    yield Weight(part="router", layer=layer, outputs=experts, inputs=hidden)
    yield Weight(
        part="experts",
        layer=layer,
        outputs=upward,
        inputs=width,
        copies=experts,
        split="experts",
        inner="outputs",
        halves=upward // size,
    )
    yield Weight(
        part="experts",
        layer=layer,
        outputs=width,
        inputs=size,
        copies=experts,
        split="experts",
        inner="inputs",
    )
    if structure.expert_bias:
        yield Weight(part="router", layer=layer, outputs=experts, linear=False)
        yield Weight(
            part="experts",
            layer=layer,
            outputs=upward,
            copies=experts,
            split="experts",
            linear=False,
        )
        yield Weight(part="experts", layer=layer, outputs=width, copies=experts, linear=False)


def _nemotron_experts(
    config: Config, structure: Structure, layer: int, hidden: int
) -> Iterator[Weight]:
    latent = config.optional_count("moe_latent_size")
    size = config.count("moe_intermediate_size")
    experts = config.count("n_routed_experts")
    yield from _experts(config, structure, layer, experts, size, latent or hidden)
    shared = config.count("moe_shared_expert_intermediate_size")
    yield from _mlp(config, structure, layer, shared, shared=True)
    if latent:
        yield Weight(part="router", layer=layer, outputs=latent, inputs=hidden)
        yield Weight(part="router", layer=layer, outputs=hidden, inputs=latent)


def _is_deepseek_sparse(config: Config, layer: int) -> bool:
    default = {"deepseek_v2": 0, "glm4_moe": 1}.get(config.model_type, 3)
    first = config.optional_count("first_k_dense_replace", default) or 0
    every = config.count("moe_layer_freq", 1)
    return layer >= first and layer % every == 0


def _is_qwen_sparse(config: Config, layer: int) -> bool:
    if config.model_type == "qwen3_5_moe_text":  # which reads neither field
        return True
    dense = config.values.get("mlp_only_layers") or ()
    if not isinstance(dense, list | tuple):
        raise config.error("must be a list of layers", field="mlp_only_layers", value=dense)
    return layer not in dense and (layer + 1) % config.count("decoder_sparse_step", 1) == 0


def _is_llama4_sparse(config: Config, layer: int) -> bool:
    listed = config.values.get("moe_layers")
    if isinstance(listed, list):
        return layer in listed
    return (layer + 1) % config.count("interleave_moe_layer_step", 1) == 0
