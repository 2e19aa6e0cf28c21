"""How many bytes weights take: dtypes and quantization formats.

Owns: bits per element, group scales and zero points, and which parts stay in 16 bits. Leaves to
others: which tensors there are (`parameters`), sharding (`weights`).

Source: the formats' own layouts as vllm/model_executor/layers/quantization (0.32.0) allocates
them. Kernels that repack weights may pad a tensor here and there; that is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvatlas.budget.devices import Device
from kvatlas.budget.mxfp4 import ExpertKernel, kernel_of
from kvatlas.budget.weights import Parallel, Part, Weight
from kvatlas.errors import InputError
from kvatlas.model.config_json import Config

__all__ = ["QUANTIZATIONS", "WEIGHT_DTYPES", "Quantization", "on_device", "quantization_of"]

WEIGHT_DTYPES: Mapping[str, int] = {"auto": 2, "bfloat16": 2, "float16": 2, "half": 2, "float32": 4}
"""Bytes per element of each `--dtype`; `auto` is 16 bits, whatever the checkpoint holds."""

_LINEAR_PARTS: frozenset[Part] = frozenset(
    ("attention", "recurrent", "mlp", "shared experts", "experts")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How matrices are stored.

    Attributes:
        name: as on the command line.
        bits: per element.
        group: elements that share a scale, along the input; 0 for one scale per output row.
        scale_bits, zero_bits: per group.
        row_group: rows that share a scale too: 128 by 128 blocks.
        index_bits: per input column of each matrix (`desc_act`).
        parts: what is stored so; the rest has the model's dtype.
        kernel: what pads the matrices of MXFP4 experts; None where nothing does, or not known.
        note: what a reader must know; empty for nothing.
    """

    name: str
    bits: int
    group: int = 0
    scale_bits: int = 32
    zero_bits: int = 0
    row_group: int = 1
    index_bits: int = 0
    parts: frozenset[Part] = _LINEAR_PARTS
    kernel: ExpertKernel | None = None
    note: str = ""

    def stores(self, weight: Weight) -> bool:
        """Whether `weight` is stored in this format, rather than in the model's dtype."""
        return weight.linear and weight.part in self.parts and weight.inputs > 1

    def weight_bytes(self, weight: Weight, parallel: Parallel, dtype_bytes: int) -> int:
        """Return the bytes that one rank of the weight's stage holds. Raises: InputError."""
        elements, matrices = weight.share(parallel)
        if not self.stores(weight):
            return elements * dtype_bytes
        if self.kernel is not None and weight.inner:
            return self.kernel.weight_bytes(weight, parallel)
        stored = -(-elements * self.bits // 8)
        if self.group:
            overhead = self.scale_bits + self.zero_bits
            scales = -(-elements // (self.group * self.row_group)) * overhead
        else:
            scales = elements // weight.inputs * self.scale_bits
        index = matrices * weight.inputs * self.index_bits
        return stored + -(-(scales + index) // 8)


QUANTIZATIONS: Mapping[str, Quantization] = {
    "none": Quantization(name="none", bits=16, parts=frozenset()),
    "fp8": Quantization(name="fp8", bits=8),
    "fp8-block": Quantization(name="fp8-block", bits=8, group=128, row_group=128),
    "int8": Quantization(name="int8", bits=8),
    "awq": Quantization(name="awq", bits=4, group=128, scale_bits=16, zero_bits=4),
    "gptq": Quantization(name="gptq", bits=4, group=128, scale_bits=16, zero_bits=4),
    "w4a16": Quantization(name="w4a16", bits=4, group=128, scale_bits=16),
    "mxfp4": Quantization(name="mxfp4", bits=4, group=32, scale_bits=8),
    "nvfp4": Quantization(name="nvfp4", bits=4, group=16, scale_bits=8),
}
"""Formats by name, with their usual group sizes."""


def quantization_of(config: Config, asked: str = "auto") -> Quantization:
    """Return how the checkpoint of `config` stores its matrices; `auto` asks the config.

    Raises:
        InputError: a format that is not modelled.
    """
    if asked != "auto":
        if asked not in QUANTIZATIONS:
            raise InputError(
                "this quantization is not modelled",
                field="quantization",
                value=asked,
                remedy=f"use auto or one of {', '.join(QUANTIZATIONS)}",
            )
        return QUANTIZATIONS[asked]
    fields = config.whole.get("quantization_config")
    if fields is None:
        fields = config.values.get("quantization_config")
    if not isinstance(fields, dict):
        return QUANTIZATIONS["none"]
    return _without_kept(_format(config, fields), fields)


def on_device(found: Quantization, device: Device) -> Quantization:
    """Return it with the kernel that vLLM picks for MXFP4 experts on `device`."""
    return replace(found, kernel=kernel_of(device)) if found.name == "mxfp4" else found


def _format(config: Config, fields: Mapping[str, Any]) -> Quantization:
    method = str(fields.get("quant_method", fields.get("quant_algo", ""))).lower()
    match method:
        case "fp8":
            return QUANTIZATIONS["fp8-block" if fields.get("weight_block_size") else "fp8"]
        case "awq" | "awq_marlin":
            return _grouped(config, fields, "awq", zeros=bool(fields.get("zero_point", True)))
        case "gptq" | "gptq_marlin":
            found = _grouped(config, fields, "gptq", zeros=not fields.get("sym", False))
            return replace(found, index_bits=32 if fields.get("desc_act") else 0)
        case "mxfp4" | "gpt_oss_mxfp4":
            return replace(QUANTIZATIONS["mxfp4"], parts=frozenset({"experts"}))
        case "compressed-tensors":
            return _compressed(config, fields)
        case "modelopt" | "modelopt_fp4":
            algo = str(fields.get("quant_algo", "")).upper()
            if algo in ("FP8", "NVFP4"):
                return QUANTIZATIONS[algo.lower()]
            raise _unknown(config, algo or method)
    raise _unknown(config, method)


def _grouped(config: Config, fields: Mapping[str, Any], name: str, *, zeros: bool) -> Quantization:
    bits, group = fields.get("bits", fields.get("w_bit", 4)), fields.get("group_size", 128)
    if bits not in (2, 3, 4, 8):
        raise config.error("bits per weight that no format has", field="bits", value=bits)
    return replace(
        QUANTIZATIONS[name],
        bits=bits,
        group=_group_size(config, group),
        zero_bits=bits if zeros else 0,
    )


def _compressed(config: Config, fields: Mapping[str, Any]) -> Quantization:
    groups = fields.get("config_groups")
    schemes = groups.values() if isinstance(groups, dict) else ()
    weights: list[dict[str, Any]] = []
    for scheme in schemes:
        found = scheme.get("weights") if isinstance(scheme, dict) else None
        if isinstance(found, dict):
            weights.append(found)
    if not weights:
        raise config.error("names no scheme for its weights", field="quantization_config")
    first = weights[0]
    bits, kind, group = first.get("num_bits"), first.get("type"), first.get("group_size")
    note = "" if len(weights) == 1 else "several schemes: all weights counted as the first"
    match bits, kind:
        case 8, _:
            block = first.get("strategy") == "block"
            name = "fp8-block" if block else "fp8" if kind == "float" else "int8"
            return replace(QUANTIZATIONS[name], note=note)
        case 4, "float":
            name = "mxfp4" if group == 32 else "nvfp4"
            return replace(QUANTIZATIONS[name], note=note)
        case 4, _:
            zeros = 0 if first.get("symmetric", True) else 4
            size = _group_size(config, -1 if group is None else group)
            return replace(QUANTIZATIONS["w4a16"], group=size, zero_bits=zeros, note=note)
    raise _unknown(config, f"{bits} bits, {kind}")


def _group_size(config: Config, group: object) -> int:
    """Return the elements per group; -1 stands for a whole row, which is 0 here."""
    if group == -1:
        return 0
    if isinstance(group, bool) or not isinstance(group, int) or not 1 <= group <= 1 << 16:
        raise config.error("cannot be right", field="group_size", value=group)
    return group


def _without_kept(found: Quantization, fields: Mapping[str, Any]) -> Quantization:
    """Return it without the parts that the config leaves alone by name."""
    listed = fields.get("modules_to_not_convert") or fields.get("ignore")
    listed = listed or fields.get("exclude_modules") or ()
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    kept: set[Part] = set()
    single = 0
    for name in names:
        part = _part_named(name)
        if part is None:
            continue
        if any(piece.isdigit() for piece in name.split(".")):
            single += 1  # one layer's module, of perhaps many
        else:
            kept.add(part)
    note = found.note
    if single:
        text = f"the config leaves {single} modules of single layers in 16 bits, counted as stored"
        note = f"{note}; {text}" if note else text
    return replace(found, parts=found.parts - kept, note=note)


def _part_named(name: str) -> Part | None:
    """Return the quantized part that a module's name means, None for the rest and for patterns."""
    words = name.removeprefix("re:").lower()
    table: tuple[tuple[str, Part], ...] = (
        ("shared_expert", "shared experts"),
        ("experts", "experts"),
        ("self_attn", "attention"),
        ("linear_attn", "recurrent"),
        ("mamba", "recurrent"),
        ("mlp", "mlp"),
    )
    pieces = words.replace("*", "").replace("\\", "").rstrip(".").split(".")
    last = next((piece for piece in reversed(pieces) if piece), "")
    return next((part for word, part in table if word in last), None)


def _unknown(config: Config, method: str) -> InputError:
    return config.error(
        "this quantization is not modelled",
        field="quant_method",
        value=method or None,
        remedy=f"name the nearest one by --quantization: {', '.join(QUANTIZATIONS)}",
    )
