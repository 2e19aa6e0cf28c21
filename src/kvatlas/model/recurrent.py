"""The recurrent layers of hybrid models: which they are and how large their state is.

Owns: Mamba-2 (Nemotron-H, Granite 4) and gated delta net (Qwen 3 Next, Qwen 3.5) configs. Leaves
to others: how a state becomes a page (`pages`).

Source: the models' `get_mamba_state_shape_from_config` and `_dtype_from_config` in
vllm/model_executor/models, and vllm/model_executor/models/config.py (0.32.0).
"""

from __future__ import annotations

from kvatlas.model.config_json import Config
from kvatlas.model.facts import LayerKind, RecurrentState

__all__ = ["nemotron_kinds", "nemotron_pattern", "recurrent_state"]

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2}
_NEMOTRON_LETTERS: dict[str, LayerKind | None] = {
    "M": "recurrent",
    "*": "full",
    "-": None,
    "E": None,
}
_NEMOTRON_NAMES = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}


def nemotron_kinds(config: Config) -> list[LayerKind | None]:
    """Return what each Nemotron-H layer keeps."""
    return [_NEMOTRON_LETTERS[letter] for letter in nemotron_pattern(config)]


def nemotron_pattern(config: Config) -> str:
    """Return a letter per Nemotron-H layer: M (Mamba), * (attention), - (MLP), E (experts).

    Raises:
        InputError: a config whose list of names or pattern of letters says something else.
    """
    names = config.names("layers_block_type") or config.names("layer_types")
    if names is not None:
        pattern = "".join(_NEMOTRON_NAMES.get(name, "?") for name in names)
    else:
        pattern = config.values.get("hybrid_override_pattern") or ""
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(_NEMOTRON_LETTERS):
        raise config.error(
            "not a pattern of M (Mamba), * (attention), - (MLP) and E (experts)",
            field="hybrid_override_pattern",
            value=pattern,
        )
    return pattern


def recurrent_state(config: Config, attention: str) -> RecurrentState:
    """Return the state that each recurrent layer of `config` keeps.

    Raises:
        InputError: a field that the state's size depends on is missing or absurd.
    """
    if attention == "gated_delta_net":
        key_size = config.count("linear_key_head_dim", 128)
        value_size = config.count("linear_value_head_dim", 128)
        value_heads = config.count("linear_num_value_heads", 32)
        return RecurrentState(
            kind="gated_delta_net",
            inner_channels=value_size * value_heads,
            num_groups=config.count("linear_num_key_heads", 16),
            channels_per_group=2 * key_size,
            conv_tokens=config.count("linear_conv_kernel_dim", 4) - 1,
            num_heads=value_heads,
            head_elements=value_size * key_size,
            state_dtype_bytes=_state_dtype_bytes(
                config, "mamba_ssm_dtype" if config.model_type != "qwen3_next" else None
            ),
        )
    if config.model_type == "nemotron_h":
        heads = config.count("mamba_num_heads", 128)
        head_size = config.count("mamba_head_dim", 64)
        state_size = config.count("ssm_state_size", 128)
        return RecurrentState(
            kind="mamba2",
            inner_channels=heads * head_size,
            num_groups=config.count("n_groups", 8),
            channels_per_group=2 * state_size,
            conv_tokens=config.count("conv_kernel", 4) - 1,
            num_heads=heads,
            head_elements=head_size * state_size,
            state_dtype_bytes=_state_dtype_bytes(config, "mamba_ssm_cache_dtype", "float32"),
        )
    heads = config.count("mamba_n_heads", 128)
    inner = config.count("mamba_expand", 2) * config.count("hidden_size")
    if inner % heads:
        raise config.error(
            "must divide mamba_expand * hidden_size", field="mamba_n_heads", value=heads
        )
    state_size = config.count("mamba_d_state", 256)
    return RecurrentState(
        kind="mamba2",
        inner_channels=inner,
        num_groups=config.count("mamba_n_groups", 1),
        channels_per_group=2 * state_size,
        conv_tokens=config.count("mamba_d_conv", 4) - 1,
        num_heads=heads,
        head_elements=inner // heads * state_size,
    )


def _state_dtype_bytes(config: Config, field: str | None, missing: str = "auto") -> int:
    """Return the bytes per element of the state; `auto` is the model's 16 bits."""
    name = (config.values.get(field) if field else None) or missing
    if not isinstance(name, str) or name not in _DTYPE_BYTES:
        raise config.error(
            "unknown dtype", field=field, value=name, remedy=f"known: {', '.join(_DTYPE_BYTES)}"
        )
    return _DTYPE_BYTES[name]
