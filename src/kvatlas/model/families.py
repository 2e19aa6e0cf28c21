"""What each model family leaves unsaid in its config.json.

Owns: which kind of layers a family has, and the defaults that its configuration class fills in.
Leaves to others: reading and checking the file (`config_json`), laying the layers out (`layout`).

A family is listed only where the layers of real vLLM's own model class were compared with ours: in
tests/vllm, except for `qwen3_vl_text` and `qwen3_vl_moe_text`, compared on published configs by
hand. Sources: the configuration classes of transformers 5.19 and vllm/model_executor/models
(vLLM 0.32.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One `model_type`.

    Attributes:
        attention: `plain` layers are all alike; `interleaved` ones may follow `layer_types`;
            `chunked` is Llama 4, `mla` DeepSeek; `mamba2` and `gated_delta_net` mix attention with
            recurrent layers.
        full_every: every so many layers one is full, where the config has no `layer_types`; 0 for
            no such pattern.
        heads: `num_attention_heads` where missing, 0 if it must be given.
        kv_heads: `num_key_value_heads` where missing, 0 for as many as attention heads.
        head_size: `head_dim` where missing, 0 for hidden size / attention heads.
        fixed_head_size: `head_dim` is not read: always hidden size / attention heads.
        window: `sliding_window` where missing.
        switched_window: the window counts only where `use_sliding_window` says so.
        window_from_layer: layers from `max_window_layers` on slide.
        window_extra_tokens: added to the config's window, which does not count the token itself.
    """

    attention: Literal["plain", "interleaved", "chunked", "mla", "mamba2", "gated_delta_net"]
    full_every: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    fixed_head_size: bool = False
    window: int | None = None
    switched_window: bool = False
    window_from_layer: bool = False
    window_extra_tokens: int = 0


def _plain(kv_heads: int = 0, head_size: int = 0) -> Family:
    return Family(attention="plain", kv_heads=kv_heads, head_size=head_size)


def _qwen(head_size: int = 0) -> Family:
    return Family(
        attention="plain",
        kv_heads=32,
        head_size=head_size,
        fixed_head_size=not head_size,
        window=4096,
        switched_window=True,
        window_from_layer=True,
    )


def _gemma(full_every: int) -> Family:
    return Family(
        attention="interleaved",
        full_every=full_every,
        heads=8,
        kv_heads=4,
        head_size=256,
        window=4096,
    )


def _delta_net(kv_heads: int) -> Family:
    return Family(attention="gated_delta_net", full_every=4, kv_heads=kv_heads, head_size=256)


FAMILIES: Mapping[str, Family] = {
    "cohere2": Family(attention="interleaved", full_every=4, window=4096, window_extra_tokens=1),
    "deepseek_v2": Family(attention="mla"),
    "deepseek_v3": Family(attention="mla"),
    "gemma": _plain(16, 256),
    "gemma2": _gemma(2),
    "gemma3_text": _gemma(6),
    "glm4": _plain(2, 128),
    "glm4_moe": _plain(8),
    "gpt_oss": Family(attention="interleaved", full_every=2, kv_heads=8, head_size=64, window=128),
    "granite": Family(attention="interleaved"),
    "granitemoehybrid": Family(attention="mamba2", fixed_head_size=True),
    "kimi_k2": Family(attention="mla"),
    "llama": Family(attention="interleaved"),
    "llama4_text": Family(attention="chunked", full_every=4, kv_heads=8, head_size=128),
    "minimax_m2": _plain(8, 128),
    "mistral": Family(attention="interleaved", kv_heads=8, window=4096),
    "mixtral": _plain(8),
    "nemotron_h": Family(attention="mamba2", kv_heads=8, head_size=128),
    "phi3": Family(attention="interleaved"),
    "qwen2": _qwen(),
    "qwen3": _qwen(128),
    "qwen3_moe": Family(attention="plain", kv_heads=4, window=4096, switched_window=True),
    "qwen3_vl_text": _plain(32, 128),
    "qwen3_vl_moe_text": _plain(16),
    "qwen3_next": _delta_net(2),
    "qwen3_5_text": _delta_net(4),
    "qwen3_5_moe_text": _delta_net(2),
}
