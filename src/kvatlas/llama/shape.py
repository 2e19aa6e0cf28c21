"""The numbers that make a Llama: sizes, heads, and the constants of its norms and rotations.

Owns: `LlamaShape`, validated, and reading it from a `config.json`. Leaves to others: parameters
(`weights`) and computing (`model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.errors import InputError

_REFUSED = {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """Sizes of a Llama; plain rotary positions, no biases, SiLU.

    Attributes:
        num_kv_heads: heads of keys and values; each serves num_heads / num_kv_heads query heads.
        head_size: numbers per head, even.
        rope_theta: base of the rotations' wavelengths.
        rms_norm_eps: added to the mean square before its root.

    Raises:
        InputError: sizes that do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_size",
        ):
            if getattr(self, name) < 1:
                raise InputError("must be at least 1", field=name, value=getattr(self, name))
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                "query heads must share key heads evenly",
                field="num_kv_heads",
                value=self.num_kv_heads,
                remedy=f"use a divisor of num_heads ({self.num_heads})",
            )
        if self.head_size % 2:
            raise InputError(
                "rotations turn pairs of numbers", field="head_size", value=self.head_size
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LlamaShape:
        """Read the fields of a Llama's `config.json` (names of Hugging Face checkpoints).

        Raises:
            InputError: a field is missing, or says something that this model does not compute
                (biases, another activation, stretched rotations).
        """
        for name, known in _REFUSED.items():
            if config.get(name, known) != known:
                raise InputError("is not supported here", field=name, value=config[name])
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise InputError(
                "only plain rotary positions are supported here", field="rope_type", value=kind
            )
        heads = _field(config, "num_attention_heads")
        return cls(
            vocab_size=_field(config, "vocab_size"),
            hidden_size=_field(config, "hidden_size"),
            intermediate_size=_field(config, "intermediate_size"),
            num_layers=_field(config, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or _field(config, "hidden_size") // heads,
            rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        )


def _field(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise InputError("must be a whole number in config.json", field=name, value=value)
    return value
