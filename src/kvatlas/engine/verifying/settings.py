"""From a recording's header to the engine that the twin has to be.

Owns: which recordings can be verified, and why not. Leaves to others: what the settings mean
(`EngineConfig`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.events.header import Group, Header

__all__ = ["engine_config"]

_REMEDY = "kvatlas verify takes recordings of vLLM without this"


def engine_config(header: Header, source: str | None = None) -> EngineConfig:
    """Return the settings of the recorded engine. O(groups).

    Raises: InputError for a recording of anything but a live vLLM, or of one that uses what the
    twin does not model.
    """
    if header.producer != "live":
        raise InputError(
            f"not a recording of a live vLLM: {header.engine} was replayed, by the twin itself",
            file=source,
            field="producer",
            value=header.producer,
            remedy="record a server with: kvatlas record DIR -- vllm serve MODEL",
        )
    if header.caching and any(g.block_size > header.hash_block_size for g in header.groups):
        raise InputError(
            "parts of blocks are cached, which the twin does not follow", file=source,
            field="hash_block_size", value=header.hash_block_size, remedy=_REMEDY,
        )  # fmt: skip
    config = header.config
    try:
        return EngineConfig(
            num_blocks=header.num_blocks,
            block_size=header.groups[0].block_size,
            kv_cache_groups=_groups(header, source),
            max_num_seqs=header.max_num_seqs,
            max_num_batched_tokens=config["max_num_batched_tokens"],
            max_model_len=config["max_model_len"],
            watermark=config.get("watermark", 0.0),
            scheduler_reserve_full_isl=config.get("reserve_full_isl", True),
            enable_prefix_caching=header.caching,
            async_scheduling=config.get("async_scheduling", False),
            num_lookahead_tokens=config.get("num_lookahead_tokens", 0),
            hash_block_size=header.hash_block_size if len(header.groups) > 1 else None,
            prefix_cache_retention_interval=config.get("prefix_cache_retention_interval", 0),
            version=config.get("engine_version", "0.32"),
        )
    except KeyError as error:
        raise InputError("the header does not say it", file=source, field=error.args[0]) from error
    except (AttributeError, TypeError) as error:
        raise InputError(f"damaged settings: {error}", file=source, field="config") from error


def _groups(header: Header, source: str | None) -> tuple[KVCacheSpec, ...]:
    said = header.config.get("kv_cache_groups") or [{}] * len(header.groups)
    if len(said) != len(header.groups):
        raise InputError("not as many as the header has", file=source, field="kv_cache_groups")
    return tuple(
        _group(group, more, source) for group, more in zip(header.groups, said, strict=True)
    )


def _group(group: Group, more: Mapping[str, Any], source: str | None) -> KVCacheSpec:
    common: dict[str, Any] = {
        "block_size": group.block_size,
        "page_size_bytes": group.page_size_bytes,
        "tag": more.get("tag") or "",
    }
    window = group.window or 0
    match group.kind:
        case "FullAttentionSpec":
            return FullAttentionSpec(**common)
        case "MLAAttentionSpec":
            return MLAAttentionSpec(**common)
        case "SlidingWindowSpec":
            return SlidingWindowSpec(sliding_window=window, **common)
        case "ChunkedLocalAttentionSpec":
            return ChunkedLocalAttentionSpec(attention_chunk_size=window, **common)
        case "MambaSpec":
            raise InputError(
                "recurrent states are copied outside of the manager's calls", file=source,
                field="group", value=group.kind, remedy=_REMEDY,
            )  # fmt: skip
        case "CrossAttentionSpec":
            raise InputError(
                "encoder tokens are not recorded", file=source, field="group", value=group.kind,
                remedy=_REMEDY,
            )  # fmt: skip
    raise InputError(
        "the twin has no such KV cache group", file=source, field="group", value=group.kind,
        remedy=_REMEDY,
    )  # fmt: skip
