"""From a model's layers to the groups that share one pool, exactly as vLLM forms them.

Owns: equal pages for unequal layers, which layers share a block table, and what a block then
weighs and wastes. Leaves to others: which layers a model has (`kvatlas.model`) and how groups
behave (`kvatlas.engine`).

Models vLLM 0.32.0's default layout, in which each layer owns a region of memory (`LBNHC`); the
block-outermost layouts, which pack unequal pages side by side, are not modelled.
Source: vllm/v1/core/kv_cache_utils.py, vllm/v1/kv_cache_interface.py (0.32.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError

__all__ = [
    "LayerGroup",
    "block_bytes",
    "group_layers",
    "num_blocks_for",
    "padding_bytes_per_block",
    "unify_page_sizes",
]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers that share one block table; a block of the pool holds a page of each of them.

    Attributes:
        spec: what the engine knows of the group. Where layers of one type differ in their page
            (different head counts), `page_size_bytes` is the sum over the layers.
        layer_names: in the model's order.
        layer_specs: each layer's own spec after page unification, one per name.
    """

    spec: KVCacheSpec
    layer_names: tuple[str, ...]
    layer_specs: tuple[KVCacheSpec, ...]

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block in all of the group's layers, page padding included."""
        return sum(spec.page_size_bytes for spec in self.layer_specs)

    @property
    def used_bytes_per_block(self) -> int:
        """Bytes of one block that can hold KV or state."""
        return sum(spec.page_size_bytes - spec.padding_bytes for spec in self.layer_specs)


def group_layers(layers: Mapping[str, KVCacheSpec]) -> tuple[LayerGroup, ...]:
    """Return the groups of a model's layers, in vLLM's order.

    Equal specs make one group, and so do layers of one type (all full attention, or one window)
    with one block size and different pages. Anything else gets equal pages first
    (`unify_page_sizes`) and is then cut into groups of about as many layers each. Cost: O(layers).

    Raises:
        InputError: a page without bytes, or pages that vLLM cannot make equal.
    """
    if not layers:
        return ()
    for name, spec in layers.items():
        if spec.page_size_bytes < 1 or spec.block_size < 1:
            raise InputError("a layer's page holds no byte or no token", field=name, value=spec)
    specs = tuple(layers.values())
    if all(spec == specs[0] for spec in specs):
        return (LayerGroup(specs[0], tuple(layers), specs),)
    if _one_type(specs):
        return (_mixed_group(layers),)
    try:
        return _groups_of_equal_size(unify_page_sizes(layers))
    except _UnequalPages as error:
        promoted = _windows_as_full(layers)
        if promoted is None:
            raise InputError(
                "this page can be neither multiplied nor padded to the largest page",
                field=error.layer,
                value=f"{layers[error.layer].page_size_bytes} bytes",
                remedy="vLLM refuses this mix of layers",
            ) from None
        return (_mixed_group(promoted),)


def block_bytes(groups: Sequence[LayerGroup]) -> int:
    """Return the bytes that one block takes from the pool: the widest group's. 0 for no group."""
    return max((group.bytes_per_block for group in groups), default=0)


def padding_bytes_per_block(groups: Sequence[LayerGroup]) -> tuple[int, ...]:
    """Return, per group, the bytes of one of its blocks that hold nothing.

    A block costs the same whoever owns it, so a group wastes both its padded pages and the room
    of the layers that it has fewer than the widest group.
    """
    widest = block_bytes(groups)
    return tuple(widest - group.used_bytes_per_block for group in groups)


def num_blocks_for(memory_bytes: int, groups: Sequence[LayerGroup]) -> int:
    """Return the pool's blocks (null block included) that `memory_bytes` of one rank hold.

    1 for a model without KV cache, as vLLM needs its null block.
    """
    return memory_bytes // block_bytes(groups) if groups else 1


class _UnequalPages(Exception):
    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


def unify_page_sizes(layers: Mapping[str, KVCacheSpec]) -> dict[str, KVCacheSpec]:
    """Return the layers with the largest page everywhere.

    A page that divides the largest multiplies its block size; any other is padded, and so is
    Mamba's, whose size does not depend on its block size. MLA pages cannot be padded.

    Raises:
        InputError: an attention page that is padded already and would have to be multiplied.
    """
    largest = max(spec.page_size_bytes for spec in layers.values())
    unified: dict[str, KVCacheSpec] = {}
    for name, spec in layers.items():
        ratio, rest = divmod(largest, spec.page_size_bytes)
        if ratio == 1 and not rest:
            unified[name] = spec
        elif isinstance(spec, MambaSpec) or (rest and not isinstance(spec, MLAAttentionSpec)):
            added = largest - spec.page_size_bytes
            unified[name] = replace(
                spec, page_size_bytes=largest, padding_bytes=spec.padding_bytes + added
            )
        elif rest:
            raise _UnequalPages(name)
        elif spec.padding_bytes:
            raise InputError(
                "a padded page cannot be multiplied",
                field=name,
                value=f"{largest} bytes",
                remedy="give the page without its padding",
            )
        else:
            unified[name] = replace(
                spec, page_size_bytes=largest, block_size=spec.block_size * ratio
            )
    return unified


def _groups_of_equal_size(layers: Mapping[str, KVCacheSpec]) -> tuple[LayerGroup, ...]:
    kinds: dict[KVCacheSpec, list[str]] = {}
    for name, spec in layers.items():
        kinds.setdefault(spec, []).append(name)
    fewest = min(len(names) for names in kinds.values())
    most = max(len(names) for names in kinds.values())
    # Nearly equal counts (13 full, 12 sliding) are padded up rather than cut into twice the groups.
    group_size = most if 2 * most < 3 * fewest else fewest
    groups = []
    for spec, names in kinds.items():
        num_groups = -(-len(names) // group_size)
        for first in range(num_groups):
            # Every n-th layer, so that each pipeline stage has its share of every group.
            members = tuple(names[first::num_groups])
            groups.append(LayerGroup(spec, members, (spec,) * len(members)))
    return tuple(groups)


def _one_type(specs: Sequence[KVCacheSpec]) -> bool:
    """Whether all layers always need the same number of blocks."""
    return len({spec.block_size for spec in specs}) == 1 and len(set(map(_type, specs))) == 1


def _type(spec: KVCacheSpec) -> tuple[str, int]:
    match spec:
        case FullAttentionSpec():
            return "full", 0
        case SlidingWindowSpec(sliding_window=tokens):
            return "sliding", tokens
        case ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            return "chunked", tokens
        case MambaSpec(page_size_bytes=size):
            return "mamba", size
        case CrossAttentionSpec():
            return "cross", 0
    raise InputError("unknown KV cache spec", field="layers", value=type(spec).__name__)


def _mixed_group(layers: Mapping[str, KVCacheSpec]) -> LayerGroup:
    specs = tuple(layers.values())
    spec = replace(
        specs[0],
        page_size_bytes=sum(spec.page_size_bytes for spec in specs),
        padding_bytes=sum(spec.padding_bytes for spec in specs),
        tag="+".join(dict.fromkeys(spec.tag for spec in specs)),
    )
    return LayerGroup(spec, tuple(layers), specs)


def _windows_as_full(layers: Mapping[str, KVCacheSpec]) -> dict[str, KVCacheSpec] | None:
    """Return sliding windows as full attention, vLLM's last resort beside MLA; None if no use."""
    specs = tuple(layers.values())
    if not any(isinstance(spec, MLAAttentionSpec) for spec in specs):
        return None
    full_sizes = {spec.block_size for spec in specs if isinstance(spec, FullAttentionSpec)}
    promoted: dict[str, KVCacheSpec] = {}
    for name, spec in layers.items():
        if not isinstance(spec, SlidingWindowSpec):
            promoted[name] = spec
            continue
        block_size = min(full_sizes) if len(full_sizes) == 1 else spec.block_size
        used = (spec.page_size_bytes - spec.padding_bytes) * block_size // spec.block_size
        page = max(used, spec.page_size_bytes) if spec.padding_bytes else used
        promoted[name] = FullAttentionSpec(
            block_size=block_size,
            page_size_bytes=page,
            padding_bytes=page - used,
            tag=f"{spec.tag} window {spec.sliding_window}",
        )
    return promoted if _one_type(tuple(promoted.values())) else None
