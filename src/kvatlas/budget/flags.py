"""The vLLM flags that a budget leads to.

Owns: which flags, their values, and why. Leaves to others: the figures (`plan`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from kvatlas.budget.plan import BLOCK_TOKENS, MLA_BLOCK_TOKENS, Budget
from kvatlas.engine.specs import KVCacheSpec, MambaSpec
from kvatlas.errors import InputError
from kvatlas.model import pool_from_memory
from kvatlas.units import format_bytes

__all__ = ["Flag", "command_line", "replay_line", "vllm_flags"]

_PLENTY = "1024TiB"
_DECIDING = ("block_size", "sliding_window", "attention_chunk_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: as on vLLM's command line; value: what to give, empty for a switch.
        why: in words.
        alternative: instead of another flag, so not part of the command line.
    """

    name: str
    value: str
    why: str
    alternative: bool = False


def vllm_flags(found: Budget) -> tuple[Flag, ...]:
    """Return the flags, in the order of the command line."""
    return tuple(_flags(found))


def command_line(found: Budget) -> str:
    """Return the command that starts such a server."""
    words = ["vllm", "serve", str(found.source.partition(":")[0] or found.request.model)]
    for flag in vllm_flags(found):
        if not flag.alternative:
            words += [flag.name, flag.value] if flag.value else [flag.name]
    return shlex.join(words)


def replay_line(found: Budget) -> str:
    """Return the command that replays a trace in the pool of `vllm_flags`; empty where none can.

    `kvatlas replay` plans for one rank with a 16-bit cache: several groups are handed over as the
    memory in which that has the same groups and as many blocks, and only if it comes out the same.
    """
    blocks = _blocks(found)
    if blocks < 2:
        return ""
    request = found.request
    words = ["--blocks", str(blocks), "--block-size", str(found.block_size)]
    plain = len(found.groups) == 1 and not found.groups[0].window_tokens and found.token_bytes
    if not plain:
        memory = _memory_for(found, blocks)
        if memory is None:
            return ""
        words = ["--kv-memory", str(memory), "--model", os.fspath(request.model)]
        words += ["--block-size", str(_asked_block(found))]
    if not request.enable_prefix_caching:
        words.append("--no-prefix-caching")
    words += ["--max-num-seqs", _max_num_seqs(found).value]
    words += ["--max-num-batched-tokens", str(found.max_num_batched_tokens)]
    words += ["--max-model-len", _max_model_len(found).value]
    return f"kvatlas replay TRACE {shlex.join(words)}"


def _blocks(found: Budget) -> int:
    """Return the blocks of a server with `vllm_flags`: without those that a buffer keeps free."""
    given = found.tightest.waterfall.kv_basis == "given"
    return found.pool.num_blocks if given else min(found.pool.num_blocks, found.blocks_after_buffer)


def _memory_for(found: Budget, blocks: int) -> int | None:
    """Return the memory in which one rank has these groups and so many blocks; None for none."""
    request = found.request
    try:
        plan = pool_from_memory(
            _PLENTY,
            os.fspath(request.model),
            _asked_block(found),
            enable_prefix_caching=request.enable_prefix_caching,
            max_model_len=int(_max_model_len(found).value),
        )
    except InputError:
        return None
    if [_shape(spec) for spec in plan.groups] != [_shape(spec) for spec in found.pool.groups]:
        return None
    return blocks * plan.bytes_per_block


def _asked_block(found: Budget) -> int:
    mla = "mla" in found.facts.kinds
    return found.request.block_size or (MLA_BLOCK_TOKENS if mla else BLOCK_TOKENS)


def _shape(spec: KVCacheSpec) -> tuple[object, ...]:
    """Return what of a group decides its blocks: all but bytes, and the length of one state."""
    if isinstance(spec, MambaSpec) and spec.mamba_cache_mode == "none":
        return (MambaSpec,)
    return (type(spec), *(getattr(spec, name, None) for name in _DECIDING))


def _flags(found: Budget) -> Iterator[Flag]:
    request, waterfall = found.request, found.tightest.waterfall
    for name, value in (
        ("--tensor-parallel-size", request.parallel.tp),
        ("--pipeline-parallel-size", request.parallel.pp),
        ("--data-parallel-size", request.parallel.dp),
    ):
        if value > 1:
            yield Flag(name=name, value=str(value), why="as asked")
    if request.parallel.experts:
        yield Flag(name="--enable-expert-parallel", value="", why="as asked")
    if request.kv_dtype != "auto":
        yield Flag(name="--kv-cache-dtype", value=request.kv_dtype, why="as asked")
    if request.enforce_eager:
        yield Flag(name="--enforce-eager", value="", why="as asked")
    given = waterfall.kv_basis == "given"
    buffer = 0 if given else request.buffers.recommended_bytes
    kv = max(0, waterfall.kv_bytes - buffer)
    exact = Flag(
        name="--kv-cache-memory-bytes",
        value=str(kv),
        why=f"{format_bytes(kv)}, whatever profiling finds: no guard against running out"
        + (f"; {format_bytes(buffer)} stay free against fragmentation" if buffer else ""),
        alternative=not given and not buffer,
    )
    if exact.alternative:
        yield Flag(
            name="--gpu-memory-utilization",
            value=f"{request.gpu_memory_utilization:g}",
            why=f"{format_bytes(waterfall.requested_bytes)} of "
            f"{format_bytes(waterfall.total_bytes)}; the KV cache gets what is left",
        )
    yield exact
    yield Flag(
        name="--block-size",
        value=str(found.block_size),
        why="tokens per block of the attention layers",
    )
    yield _max_num_seqs(found)
    yield Flag(
        name="--max-num-batched-tokens",
        value=str(found.max_num_batched_tokens),
        why="as asked" if request.max_num_batched_tokens else "vLLM's own on this device",
    )
    yield _max_model_len(found)


def _max_num_seqs(found: Budget) -> Flag:
    tokens = max(found.lengths)
    room = found.pool.requests(tokens)
    why = "vLLM's own on this device"
    value = found.max_num_seqs
    if found.request.max_num_seqs:
        why = "as asked"
    elif found.request.concurrency:
        why = "the wanted concurrency"
        if value < found.request.concurrency:
            why = "the wanted concurrency, up to the tokens of a step"
    if 0 < room < value:
        why += f"; {room:,} of {tokens:,} tokens have room, more wait or preempt"
    return Flag(name="--max-num-seqs", value=str(value), why=why)


def _max_model_len(found: Budget) -> Flag:
    if found.request.lengths:
        return Flag(
            name="--max-model-len",
            value=str(max(found.lengths)),
            why="the longest wanted length",
        )
    longest = found.pool.longest(found.max_model_len)
    if 0 < longest < found.max_model_len:
        return Flag(
            name="--max-model-len",
            value=str(longest),
            why=f"the longest that has room; the model allows {found.max_model_len:,}",
        )
    why = "as asked" if found.request.max_model_len else "the model's own"
    return Flag(name="--max-model-len", value=str(found.max_model_len), why=why)
