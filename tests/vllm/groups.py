"""The families of KV cache groups that are compared with the real vLLM.

Owns: one function per family that draws its groups. A family also says whether vLLM can cache
prefixes with such groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)

Drawn = tuple[tuple[KVCacheSpec, ...], bool]
Family = Callable[[Random, int], Drawn]


def has_sparse(specs: tuple[KVCacheSpec, ...]) -> bool:
    """Say whether retention means anything to these groups."""
    return any(isinstance(spec, SlidingWindowSpec | MambaSpec) for spec in specs)


def draw_hash_block(rng: Random, specs: tuple[KVCacheSpec, ...]) -> int | None:
    """Draw an explicit hash block size now and then, where vLLM and the twin allow one."""
    if len(specs) == 1 or any(isinstance(spec, MambaSpec) for spec in specs):
        return None
    common = math.gcd(*(spec.block_size for spec in specs))
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    return rng.choice(divisors) if rng.random() < 0.3 else None


def _full(block_size: int, tag: str = "") -> FullAttentionSpec:
    return FullAttentionSpec(block_size=block_size, tag=tag)


def _window(rng: Random, block_size: int) -> SlidingWindowSpec:
    tokens = rng.choice((1, 2, block_size, block_size + 1, rng.randrange(1, 6 * block_size + 2)))
    return SlidingWindowSpec(block_size=block_size, sliding_window=tokens)


def _chunked(rng: Random, block_size: int) -> ChunkedLocalAttentionSpec:
    tokens = rng.choice((block_size, 2 * block_size, rng.randrange(1, 6 * block_size + 2)))
    return ChunkedLocalAttentionSpec(block_size=block_size, attention_chunk_size=tokens)


def _mixed(rng: Random, *specs: KVCacheSpec) -> Drawn:
    """The groups in any order, all cacheable."""
    drawn = list(specs)
    rng.shuffle(drawn)
    return tuple(drawn), True


def _align(block_size: int, tag: str = "") -> MambaSpec:
    return MambaSpec(block_size=block_size, mamba_cache_mode="align", tag=tag)


def _draw_sizes(rng: Random, block_size: int) -> Drawn:
    """Full attention and a window whose block sizes divide one another."""
    factor = rng.choice((2, 2, 4))
    sizes = (block_size * factor, block_size)
    full, window = sizes if rng.random() < 0.6 else sizes[::-1]
    return _mixed(rng, _full(full), _window(rng, window))


def _draw_coprime(rng: Random, block_size: int) -> Drawn:
    """Three groups whose block sizes do not divide one another: the LCM is none of them."""
    return _mixed(
        rng, _full(2 * block_size), _window(rng, 3 * block_size), _window(rng, block_size)
    )


def _draw_none(rng: Random, block_size: int) -> Drawn:
    """Full attention and a Mamba state that is not cached: vLLM turns caching off."""
    drawn = [_full(block_size), MambaSpec(block_size=block_size * rng.choice((1, 4, 1000)))]
    rng.shuffle(drawn)
    return tuple(drawn), False


def _draw_tags(rng: Random, block_size: int) -> Drawn:
    """Full attention twice or thrice, of one kind (looked up together) or of two."""
    tags = rng.choice((("", "other"), ("", ""), ("", "other", "")))
    return tuple(_full(block_size, tag) for tag in tags), True


def _draw_many(rng: Random, block_size: int) -> Drawn:
    """Full attention, equal and different windows, and chunks: the fixed point takes rounds."""
    window = _window(rng, block_size)
    return _mixed(
        rng, _full(block_size), window, window, _window(rng, block_size), _chunked(rng, block_size)
    )


FAMILIES: dict[str, Family] = {
    "full": lambda rng, size: ((_full(size),), True),
    "full+window": lambda rng, size: _mixed(rng, _full(size), _window(rng, size)),
    "full+chunked": lambda rng, size: _mixed(rng, _full(size), _chunked(rng, size)),
    "full+mamba": lambda rng, size: _mixed(rng, _full(size), _align(size)),
    "full+two mamba": lambda rng, size: _mixed(rng, _full(size), _align(size), _align(size, "b")),
    "full+window+mamba": lambda rng, size: _mixed(
        rng, _full(size), _window(rng, size), _align(size)
    ),
    "full+mamba uncached": _draw_none,
    "full+two windows": lambda rng, size: _mixed(
        rng, _full(size), _window(rng, size), _window(rng, size)
    ),
    "two windows": lambda rng, size: _mixed(rng, _window(rng, size), _window(rng, size)),
    "window": lambda rng, size: ((_window(rng, size),), True),
    "chunked": lambda rng, size: ((_chunked(rng, size),), True),
    "mamba": lambda rng, size: ((_align(size),), True),
    "tags": _draw_tags,
    "sizes": _draw_sizes,
    "coprime sizes": _draw_coprime,
    "many": _draw_many,
}
"""Family name -> (random numbers, block size) -> (groups, whether vLLM can cache prefixes)."""
