"""KV cache groups between the JSON's `config` and the engine.

Owns: reading a group by vLLM's name of its spec, and saying it again. Leaves to others: what the
specs mean (`kvatlas.engine.specs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kvatlas.engine import specs
from kvatlas.errors import InputError

__all__ = ["group_of", "said_group"]

_KINDS = (
    specs.FullAttentionSpec,
    specs.MLAAttentionSpec,
    specs.SlidingWindowSpec,
    specs.ChunkedLocalAttentionSpec,
    specs.MambaSpec,
    specs.CrossAttentionSpec,
)


def said_group(spec: specs.KVCacheSpec) -> dict[str, Any]:
    """Return a group as the JSON says it."""
    return {"kind": type(spec).__name__, **asdict(spec)}


def group_of(said: Mapping[str, Any]) -> specs.KVCacheSpec:
    """Return the group that the JSON says. Raises: InputError when there is no such thing."""
    kinds = {kind.__name__: kind for kind in _KINDS}
    kind = kinds.get(said.get("kind", ""))
    if kind is None:
        raise InputError("unknown kind of KV cache group", field="kind", value=said.get("kind"))
    fields = {name: value for name, value in said.items() if name != "kind" and value is not None}
    try:
        return kind(**fields)
    except TypeError as error:
        raise InputError(f"not a {kind.__name__}: {error}", field="kv_cache_groups") from error
