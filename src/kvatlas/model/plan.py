"""From a memory size and a model's name to a pool: what the command line asks for.

Owns: resolving a model's name or file, and `pool_from_memory`. Leaves to others: every rule that
it applies (`layout`, `pages`, `kvatlas.engine.layers`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kvatlas.engine.layers import (
    LayerGroup,
    block_bytes,
    group_layers,
    num_blocks_for,
    padding_bytes_per_block,
)
from kvatlas.engine.specs import KVCacheSpec
from kvatlas.errors import InputError
from kvatlas.model.catalogue import catalogue_config, catalogue_names
from kvatlas.model.config_json import Config, read_config
from kvatlas.model.facts import ModelFacts
from kvatlas.model.layout import facts_from_config
from kvatlas.model.pages import attention_block_size, bytes_per_token, kv_layers
from kvatlas.units import format_bytes, parse_bytes

__all__ = ["PoolPlan", "load_config", "load_model", "pool_from_memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """A pool that fits a memory size; all bytes are those of one tensor-parallel rank.

    Attributes:
        num_blocks: blocks in the pool, the null block included.
        groups: what `EngineConfig.kv_cache_groups` takes.
        layer_groups: the same groups with their layers.
        block_size: tokens per block of the attention layers, which hybrid models may raise.
        bytes_per_block: bytes that one block takes, whoever owns it.
        bytes_per_token: bytes that one more token takes while every layer still keeps it.
        notes: plain sentences that a user must read.
    """

    num_blocks: int
    groups: tuple[KVCacheSpec, ...]
    layer_groups: tuple[LayerGroup, ...]
    block_size: int
    bytes_per_block: int
    bytes_per_token: int
    notes: tuple[str, ...] = ()


def load_model(model: str | os.PathLike[str]) -> ModelFacts:
    """Return the facts of a config.json, of a directory that holds one, or of a catalogue's name.

    Raises:
        InputError: none of these, or a config whose layout cannot be known.
    """
    name, config = load_config(model)
    return facts_from_config(config, name, source=config.file or "")


def load_config(model: str | os.PathLike[str]) -> tuple[str, Config]:
    """Return a model's name and its config, from a file, a directory or the catalogue.

    Raises:
        InputError: none of these, or not a config.
    """
    path = Path(model)
    if not _holds_config(path):
        found = catalogue_config(os.fspath(model))
        if found is not None:
            return found
        if path.suffix != ".json":
            raise InputError(
                "no such model config",
                field="model",
                value=os.fspath(model),
                remedy=f"give the path of a config.json or one of {', '.join(catalogue_names())}",
            )
    config = read_config(path)
    return path.resolve().parent.name if path.name == "config.json" else path.stem, config


def _holds_config(path: Path) -> bool:
    try:
        return path.is_file() or (path / "config.json").is_file()
    except OSError:  # a name that no file can have
        return False


def pool_from_memory(
    kv_memory: str,
    model: str,
    block_size: int,
    tp: int = 1,
    *,
    kv_dtype: str = "auto",
    enable_prefix_caching: bool = True,
    max_model_len: int | None = None,
) -> PoolPlan:
    """Return the pool that vLLM would build in `kv_memory` of one rank.

    Args:
        kv_memory: such as "40GiB": what is left for the KV cache on each rank.
        model: as `load_model` takes it.
        block_size: tokens per block that the user asked for.
        tp: tensor-parallel ranks.
        kv_dtype: a key of `KV_DTYPES`.
        enable_prefix_caching: decides how recurrent layers keep their states.
        max_model_len: tokens; the config's own by default.

    Raises:
        InputError: not a size, not a model, or less memory than two blocks (one is the null block).
    """
    memory_bytes = parse_bytes(kv_memory, field="kv_memory")
    facts = load_model(model)
    layers = kv_layers(
        facts,
        block_size,
        kv_dtype,
        tp=tp,
        enable_prefix_caching=enable_prefix_caching,
        max_model_len=max_model_len,
    )
    groups = group_layers(layers)
    num_blocks = num_blocks_for(memory_bytes, groups)
    if num_blocks < 2:
        raise InputError(
            "too little memory for two blocks",
            field="kv_memory",
            value=kv_memory,
            remedy=f"one block takes {format_bytes(block_bytes(groups))} on each rank",
        )
    used_block_size = attention_block_size(facts, block_size, kv_dtype, tp=tp)
    return PoolPlan(
        num_blocks=num_blocks,
        groups=tuple(group.spec for group in groups),
        layer_groups=groups,
        block_size=used_block_size,
        bytes_per_block=block_bytes(groups),
        bytes_per_token=bytes_per_token(facts, kv_dtype, tp=tp),
        notes=(
            *_model_notes(facts, tp, block_size, used_block_size, enable_prefix_caching),
            *_padding_notes(groups),
        ),
    )


def _model_notes(facts: ModelFacts, tp: int, asked: int, used: int, caching: bool) -> list[str]:
    notes = []
    if used != asked:
        notes.append(
            f"block size {asked} became {used}: in a hybrid model an attention page must hold a "
            "recurrent state"
        )
    if caching and facts.recurrent is not None and facts.recurrent.kind == "mamba2":
        notes.append(
            "vLLM 0.32 may save one more Mamba-2 state inside a long prefill; the engine here "
            "keeps states at block ends only"
        )
    if "mla" in facts.kinds:
        notes.append(
            "vLLM's MLA kernels may require blocks of 32, 64 or 128 tokens, depending on the GPU"
        )
    if tp > 1:
        notes.append(f"bytes are those of one of {tp} tensor-parallel ranks")
        if "mla" in facts.kinds:
            notes.append("every rank keeps the whole latent vector of MLA")
        elif any(0 < layer.kv_heads < tp for layer in facts.layers):
            notes.append("fewer key-value heads than ranks: the heads are replicated")
    return notes


def _padding_notes(groups: tuple[LayerGroup, ...]) -> list[str]:
    notes = []
    for number, (group, padding) in enumerate(
        zip(groups, padding_bytes_per_block(groups), strict=True)
    ):
        if padding:
            share = padding / (group.used_bytes_per_block + padding)
            notes.append(
                f"group {number} ({len(group.layer_names)} layers) leaves {format_bytes(padding)} "
                f"({share:.0%}) of each of its blocks empty"
            )
    return notes
