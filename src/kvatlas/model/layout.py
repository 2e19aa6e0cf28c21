"""Which layers a config describes, and what each of them keeps.

Owns: from config fields to `ModelFacts`, for every family in `families`. Leaves to others: reading
the file (`config_json`), pages and blocks (`pages`).

Source: vllm/model_executor/models and vllm/transformers_utils/model_arch_config_convertor.py
(0.32.0), on the configuration classes of transformers 5.19.
"""

from __future__ import annotations

from kvatlas.model.config_json import Config
from kvatlas.model.facts import LayerFacts, LayerKind, ModelFacts
from kvatlas.model.families import FAMILIES, Family
from kvatlas.model.recurrent import nemotron_kinds, recurrent_state

__all__ = ["facts_from_config"]

_KIND_OF_LAYER_TYPE: dict[str, LayerKind | None] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "recurrent",
    "mamba": "recurrent",
    "mlp": None,
    "moe": None,
}


def facts_from_config(config: Config, name: str, source: str = "") -> ModelFacts:
    """Return the facts of a config.

    Raises:
        InputError: a family whose layout is not known, a config without heads, absurd values.
    """
    model_type = config.model_type
    family = FAMILIES.get(model_type)
    if family is None:
        raise config.error(
            "the KV layout of this model_type is not known",
            field="model_type",
            value=model_type,
            remedy=f"known: {', '.join(FAMILIES)}",
        )
    heads = _num_heads(config, family)
    layers = _layers(config, family, heads)
    recurrent = None
    if any(layer.kind == "recurrent" for layer in layers):
        recurrent = recurrent_state(config, family.attention)
    return ModelFacts(
        name=name,
        model_type=model_type,
        layers=layers,
        num_attention_heads=heads,
        max_model_len=config.optional_count("max_position_embeddings"),
        default_kv_dtype=_checkpoint_kv_dtype(config),
        recurrent=recurrent,
        source=source,
    )


def _num_heads(config: Config, family: Family) -> int:
    if not family.heads and config.values.get("num_attention_heads") is None:
        raise config.error(
            "a model config without heads",
            field="num_attention_heads",
            remedy="give the config.json of the language model",
        )
    return config.count("num_attention_heads", family.heads)


def _layers(config: Config, family: Family, heads: int) -> tuple[LayerFacts, ...]:
    if family.attention == "mla":
        latent = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
        return tuple(LayerFacts(index, "mla", 1, latent) for index in range(_num_layers(config)))
    kv_heads = heads
    if "num_key_value_heads" in config.values or family.kv_heads:
        missing = family.kv_heads if "num_key_value_heads" not in config.values else heads
        kv_heads = config.count("num_key_value_heads", missing)
    if heads % kv_heads:
        raise config.error(
            "the key-value heads must divide the attention heads",
            field="num_key_value_heads",
            value=kv_heads,
            remedy=f"num_attention_heads is {heads}",
        )
    head_size = _head_size(config, family, heads)
    layers = []
    for index, (kind, tokens) in enumerate(_kinds(config, family)):
        if kind == "recurrent":
            layers.append(LayerFacts(index, kind, 0, 0))
        elif kind is not None:
            layers.append(LayerFacts(index, kind, kv_heads, head_size, tokens))
    return tuple(layers)


def _num_layers(config: Config) -> int:
    return config.count("num_hidden_layers", most=10_000)


def _head_size(config: Config, family: Family, heads: int) -> int:
    if not family.fixed_head_size and (config.values.get("head_dim") or family.head_size):
        return config.count("head_dim", family.head_size)
    if config.values.get("hidden_size") is None:
        raise config.error(
            "a model config without heads: neither head_dim nor hidden_size",
            field="hidden_size",
            remedy="give the config.json of the language model",
        )
    head_size = config.count("hidden_size") // heads
    if not head_size:
        raise config.error(
            "fewer hidden elements than heads",
            field="hidden_size",
            value=config.values["hidden_size"],
            remedy=f"num_attention_heads is {heads}",
        )
    return head_size


def _kinds(config: Config, family: Family) -> list[tuple[LayerKind | None, int]]:
    """Return each layer's kind and window or chunk, None for layers that keep nothing."""
    if family.attention == "chunked":
        return _chunked(config, family)
    if config.model_type == "nemotron_h":
        return [(kind, 0) for kind in nemotron_kinds(config)]
    count = _num_layers(config)
    names = config.names("layer_types") or config.names("layers_block_type")
    if names is None:
        return _unnamed(config, family, count)
    if len(names) != count:
        raise config.error(
            "one name per layer is needed",
            field="layer_types",
            value=f"{len(names)} names",
            remedy=f"num_hidden_layers is {count}",
        )
    unknown = [name for name in names if name not in _KIND_OF_LAYER_TYPE]
    if unknown:
        raise config.error("unknown kind of layer", field="layer_types", value=unknown[0])
    kinds = [_KIND_OF_LAYER_TYPE[name] for name in names]
    if len(set(kinds)) > 1 and family.attention == "plain":
        raise config.error(
            "vLLM does not mix kinds of layers in this family",
            field="layer_types",
            value=config.model_type,
        )
    window = _window(config, family) if "sliding" in kinds else None
    if "sliding" in kinds and window is None:
        raise config.error("sliding layers without a window", field="sliding_window")
    return [(kind, window if kind == "sliding" and window else 0) for kind in kinds]


def _unnamed(config: Config, family: Family, count: int) -> list[tuple[LayerKind | None, int]]:
    """Return the kinds of `count` layers that the config does not list."""
    if family.attention == "mamba2":
        return [("recurrent", 0)] * count
    window = _window(config, family)
    if family.attention == "gated_delta_net":
        period = config.count("full_attention_interval", family.full_every)
        return [("full" if not (i + 1) % period else "recurrent", 0) for i in range(count)]
    if window is None:
        return [("full", 0)] * count
    if family.full_every:
        period = config.count("sliding_window_pattern", family.full_every)
        return [("full", 0) if not (i + 1) % period else ("sliding", window) for i in range(count)]
    if family.window_from_layer:
        first = config.values.get("max_window_layers", 28)
        if isinstance(first, bool) or not isinstance(first, int) or 0 < first < count:
            raise config.error(
                "vLLM does not mix kinds of layers in this family",
                field="max_window_layers",
                value=first,
                remedy=f"num_hidden_layers is {count}",
            )
        return [("sliding", window) if first <= 0 else ("full", 0)] * count
    return [("sliding", window)] * count


def _window(config: Config, family: Family) -> int | None:
    if family.switched_window and not config.values.get("use_sliding_window", False):
        return None
    window = config.optional_count("sliding_window", family.window)
    return None if window is None else window + family.window_extra_tokens


def _chunked(config: Config, family: Family) -> list[tuple[LayerKind | None, int]]:
    """Return Llama 4's layers: those with rotary positions attend within their chunk."""
    count = _num_layers(config)
    chunk = config.optional_count("attention_chunk_size", 8192)
    rotary = config.values.get("no_rope_layers")
    if not rotary:
        period = config.count("no_rope_layer_interval", family.full_every)
        rotary = [(index + 1) % period for index in range(count)]
    if not isinstance(rotary, list) or len(rotary) != count:
        raise config.error(
            "one number per layer is needed",
            field="no_rope_layers",
            value=rotary,
            remedy=f"num_hidden_layers is {count}",
        )
    return [("chunked", chunk) if flag and chunk else ("full", 0) for flag in rotary]


def _checkpoint_kv_dtype(config: Config) -> str:
    """Return what `auto` means for a quantized checkpoint that fixes its cache's dtype."""
    quantized = config.whole.get("quantization_config")
    if not isinstance(quantized, dict):
        return "auto"
    method = str(quantized.get("quant_method", ""))
    scheme = quantized.get("kv_cache_scheme")
    if method == "compressed-tensors":
        return "fp8" if scheme else "auto"
    if not method.startswith("modelopt"):
        return "auto"
    scheme = scheme or quantized.get("kv_cache_quant_algo")
    if isinstance(scheme, dict):
        return {8: "fp8", 4: "nvfp4"}.get(scheme.get("num_bits", 0), "auto")
    known = {"fp8": "fp8", "nvfp4": "nvfp4"}
    return known.get(scheme.lower(), "auto") if isinstance(scheme, str) else "auto"
