"""Arrays for KV cache groups: their parameters, and which of them are looked up together.

Owns: the translation of specs. Leaves to others: the specs (`specs`), the rest of an engine
(`build`).
"""

from __future__ import annotations

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels.state import (
    CHUNKED,
    CROSS,
    FULL,
    GROUP,
    MAMBA_ALIGN,
    MAMBA_NONE,
    NONE,
    SLIDING,
    UNIT,
)
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.records import Records, records

__all__ = ["make_groups"]


def make_groups(config: EngineConfig) -> tuple[Records, Records]:
    """Return the groups' parameters and the lookup units (full attention first, then in order)."""
    specs = config.groups
    units: dict[KVCacheSpec, list[int]] = {}
    for group, spec in enumerate(specs):
        if not isinstance(spec, CrossAttentionSpec):
            units.setdefault(spec, []).append(group)
    ordered = sorted(units.items(), key=lambda unit: not isinstance(unit[0], FullAttentionSpec))
    groups, lookups = records(len(specs), GROUP), records(len(ordered), UNIT)
    for group, spec in enumerate(specs):
        cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
        groups[group].kind = _kind(spec)
        groups[group].block_size = spec.block_size
        groups[group].window = _window(spec)
        groups[group].admission_cap = NONE if cap is None else cap
    start = 0
    for unit, (spec, members) in enumerate(ordered):
        groups["member"][start : start + len(members)] = members
        lookups[unit].kind = _kind(spec)
        lookups[unit].start, lookups[unit].stop = start, start + len(members)
        start += len(members)
    return groups, lookups


def _kind(spec: KVCacheSpec) -> int:
    match spec:
        case FullAttentionSpec():
            return FULL
        case SlidingWindowSpec():
            return SLIDING
        case ChunkedLocalAttentionSpec():
            return CHUNKED
        case MambaSpec(mamba_cache_mode="align"):
            return MAMBA_ALIGN
        case MambaSpec():
            return MAMBA_NONE
        case CrossAttentionSpec():
            return CROSS
    raise InputError("unknown KV cache spec", field="kv_cache_groups", value=type(spec).__name__)


def _window(spec: KVCacheSpec) -> int:
    match spec:
        case SlidingWindowSpec(sliding_window=tokens):
            return tokens
        case ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            return tokens
    return 1
