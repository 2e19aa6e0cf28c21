"""What a checkpoint holds beside its language model: a vision tower, layers that draft tokens.

Owns: how many parameters those have. Leaves to others: the language model (`parameters`), the
sentence that says so (`notes`).

Source: transformers' own vision classes, held against them in tests/vllm; for multi-token
prediction vllm/model_executor/models/deepseek_mtp.py (0.32.0): a layer like the last one, a
projection of two states to one, three norms. Embedding and output head are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.budget.parameters import num_layers, weights_of
from kvatlas.budget.weights import Weight
from kvatlas.model import ModelFacts
from kvatlas.model.config_json import Config

__all__ = ["draft_weights", "vision_parameters"]

_MOST = 1 << 20


class _Unclear(Exception):
    """A field is missing, or no whole number that can be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tower:
    """How a kind of vision tower is built, beyond its sizes.

    `norms` and `ends`: vectors of the hidden size per layer, and before and after the layers.
    `extra_positions`: beside one per patch; None where there are none at all.
    """

    biased: bool = True
    gated: bool = False
    norms: int = 4
    ends: int = 2
    patch_bias: bool = True
    frames: bool = False
    extra_positions: int | None = 0
    merger: str = ""


_QWEN3 = _Tower(ends=0, frames=True, extra_positions=None, merger="deep")
_TOWERS: Mapping[str, _Tower] = {
    "siglip_vision_model": _Tower(),
    "clip_vision_model": _Tower(ends=5, patch_bias=False, extra_positions=1),
    "llama4_vision_model": _Tower(ends=5, patch_bias=False, extra_positions=1, merger="llama4"),
    "pixtral": _Tower(
        biased=False, gated=True, norms=2, ends=1, patch_bias=False, extra_positions=None
    ),
    "qwen2_5_vl": _Tower(
        gated=True, norms=2, ends=0, patch_bias=False, frames=True, extra_positions=None,
        merger="qwen",
    ),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3,
    "qwen3_5_moe": _QWEN3,
}  # fmt: skip


def vision_parameters(config: Config) -> int | None:
    """Return the parameters of a config's vision tower, None where its kind is not known.

    A projector between tower and language model counts where it is part of the tower's class.
    """
    fields = config.whole.get("vision_config")
    if not isinstance(fields, dict):
        return None
    tower = _TOWERS.get(str(fields.get("model_type")))
    if tower is None:
        return None
    try:
        return _counted(tower, fields)
    except _Unclear:
        return None


def _counted(tower: _Tower, fields: Mapping[str, Any]) -> int:
    def size(*names: str) -> int:
        found = next((fields[name] for name in names if name in fields), None)
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= _MOST:
            raise _Unclear
        return found

    def given(default: int, *names: str) -> int:
        return size(*names) if any(name in fields for name in names) else default

    hidden, inner = size("hidden_size"), size("intermediate_size")
    layers = size("num_hidden_layers", "depth")
    upward = 2 if tower.gated else 1
    layer = 4 * hidden * hidden + (upward + 1) * hidden * inner + tower.norms * hidden
    if tower.biased:
        layer += 4 * hidden + upward * inner + hidden
    pixels = given(3, "num_channels", "in_channels") * size("patch_size") ** 2
    pixels *= given(2, "temporal_patch_size") if tower.frames else 1
    count = layers * layer + pixels * hidden + tower.ends * hidden
    count += hidden if tower.patch_bias else 0
    if tower.extra_positions is not None:
        patches = (size("image_size") // size("patch_size")) ** 2
        count += (patches + tower.extra_positions) * hidden
    return count + _merger(tower.merger, hidden, given, fields)


def _merger(kind: str, hidden: int, given: Callable[..., int], fields: Mapping[str, Any]) -> int:
    """Return the parameters that bring patches to the language model, as part of the tower."""
    if kind == "llama4":
        inner, out = given(4096, "projector_input_dim"), given(4096, "projector_output_dim")
        return given(5632, "intermediate_size") * inner + inner * out
    if not kind:
        return 0
    merged = given(2, "spatial_merge_size") ** 2 * hidden
    out = given(hidden, "out_hidden_size")
    linear = merged * merged + merged + merged * out + out
    if kind == "qwen":
        return linear + hidden
    listed = fields.get("deepstack_visual_indexes")
    deep = len(listed) if isinstance(listed, list) else 0
    positions = given(2304, "num_position_embeddings") * hidden
    return positions + linear + 2 * hidden + deep * (linear + 2 * merged)


def draft_weights(config: Config, facts: ModelFacts) -> tuple[Weight, ...]:
    """Return the tensors of the layers for multi-token prediction, none where there are none."""
    layers = config.optional_count("num_nextn_predict_layers", 0) or 0
    if not layers:
        return ()
    last = num_layers(config) - 1
    hidden = config.count("hidden_size")
    one = [weight for weight in weights_of(config, facts) if weight.layer == last]
    one += [
        Weight(part="attention", layer=last, outputs=hidden, inputs=2 * hidden, linear=False),
        Weight(part="norms", layer=last, outputs=hidden, copies=3, linear=False),
    ]
    return tuple(one) * layers
