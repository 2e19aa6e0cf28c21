"""From flags to the size of the pool: blocks, or bytes and a model.

Owns: what is the pool when nobody says, and which flags go together. Leaves to others: what a
model's layers need (`kvatlas.model`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from kvatlas.cli.block_size_words import AUTO
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.specs import KVCacheSpec
from kvatlas.errors import InputError
from kvatlas.units import format_bytes, parse_bytes

__all__ = ["BLOCK_SIZES", "DEFAULT_POOL_TOKENS", "PoolChoice", "choose_pool"]

BLOCK_SIZES = {"vllm": 16, "nano-vllm": 256}
"""Tokens per block by engine, when nobody says."""

DEFAULT_POOL_TOKENS = 320_000
"""Tokens in the pool when nobody says: 20,000 blocks of 16, 1,250 of nano-vLLM's 256."""

_BOOKS_BYTES_PER_BLOCK = 104  # a record of 40 bytes, and up to four index slots of 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChoice:
    """A pool.

    Attributes:
        num_blocks: blocks, as the engine counts them.
        block_size: tokens per block of the attention layers.
        groups: the model's KV cache groups, None for one of full attention.
        said: where the size comes from, by the keys of the JSON's `config`.
        notes: plain sentences that a user must read.
    """

    num_blocks: int
    block_size: int
    said: dict[str, int | str | None]
    groups: tuple[KVCacheSpec, ...] | None = None
    notes: tuple[str, ...] = field(default=())


def choose_pool(flags: ReplayFlags) -> PoolChoice:
    """Return the pool that the flags describe. Raises: InputError naming a field."""
    block_size = flags.block_size
    if block_size is None or block_size == AUTO:  # what is chosen takes the same memory
        block_size = BLOCK_SIZES[flags.engine]
    if block_size < 1:
        raise InputError("must be at least 1", field="block_size", value=block_size)
    if flags.kv_memory is not None:
        pool = _from_memory(flags, flags.kv_memory, block_size)
    elif flags.model is not None:
        raise InputError(
            "a model says how many bytes a block takes, not how many blocks there are",
            field="model",
            value=flags.model,
            remedy="add --kv-memory, such as 40GiB",
        )
    elif flags.blocks is not None:
        pool = PoolChoice(num_blocks=flags.blocks, block_size=block_size, said=_said("--blocks"))
    else:
        blocks = max(2, DEFAULT_POOL_TOKENS // block_size)
        tokens = blocks * block_size
        note = f"no --blocks given: {blocks:,} blocks, room for {tokens:,} tokens"
        pool = PoolChoice(
            num_blocks=blocks, block_size=block_size, said=_said("default"), notes=(note,)
        )
    _require_memory(pool.num_blocks)
    return pool


def _from_memory(flags: ReplayFlags, kv_memory: str, block_size: int) -> PoolChoice:
    if flags.blocks is not None:
        raise InputError(
            "two sizes for one pool",
            field="kv_memory",
            value=kv_memory,
            remedy="give either --blocks or --kv-memory",
        )
    if flags.model is None:
        raise InputError(
            "how many bytes a block takes depends on the model",
            field="kv_memory",
            value=kv_memory,
            remedy="add --model",
        )
    from kvatlas.model import pool_from_memory

    plan = pool_from_memory(
        kv_memory,
        flags.model,
        block_size,
        enable_prefix_caching=flags.prefix_caching,
        max_model_len=flags.max_model_len,
    )
    return PoolChoice(
        num_blocks=plan.num_blocks,
        block_size=plan.block_size,
        groups=plan.groups,
        said=_said("--kv-memory")
        | {
            "model": flags.model,
            "kv_memory_bytes": parse_bytes(kv_memory),
            "bytes_per_block": plan.bytes_per_block,
            "bytes_per_token": plan.bytes_per_token,
        },
        notes=plan.notes,
    )


def _said(blocks_from: str) -> dict[str, int | str | None]:
    return {
        "blocks_from": blocks_from,
        "model": None,
        "kv_memory_bytes": None,
        "bytes_per_block": None,
        "bytes_per_token": None,
    }


def _require_memory(num_blocks: int) -> None:
    books_bytes = num_blocks * _BOOKS_BYTES_PER_BLOCK
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if books_bytes > machine_bytes:
        raise InputError(
            f"the books of this pool take {format_bytes(books_bytes)}, more than this machine has",
            field="num_blocks",
            value=num_blocks,
            remedy="use fewer blocks",
        )
