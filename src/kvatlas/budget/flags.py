"""The vLLM flags that a budget leads to.

Owns: which flags, their values, and why. Leaves to others: the figures (`plan`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvatlas.budget.plan import Budget
from kvatlas.units import format_bytes

__all__ = ["Flag", "command_line", "replay_line", "vllm_flags"]


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
    return " ".join(words)


def replay_line(found: Budget) -> str:
    """Return the command that replays a trace in such a pool; empty where none says it.

    `kvatlas replay` makes several groups for one rank only.
    """
    blocks = found.pool.num_blocks
    if blocks < 2:
        return ""
    limits = (
        f"--max-num-seqs {_max_num_seqs(found).value} "
        f"--max-num-batched-tokens {found.max_num_batched_tokens} "
        f"--max-model-len {found.max_model_len}"
    )
    if len(found.groups) == 1 and found.groups[0].window_tokens == 0:
        return f"kvatlas replay TRACE --blocks {blocks} --block-size {found.block_size} {limits}"
    request = found.request
    if request.parallel.tp > 1 or request.parallel.pp > 1 or request.kv_dtype != "auto":
        return ""
    memory = blocks * found.tightest.block_bytes
    return f"kvatlas replay TRACE --kv-memory {memory} --model {request.model} {limits}"


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
    buffer = request.buffers.recommended_bytes
    kv = max(0, waterfall.kv_bytes - (0 if waterfall.kv_basis == "given" else buffer))
    exact = Flag(
        name="--kv-cache-memory-bytes",
        value=str(kv),
        why=f"{format_bytes(kv)}, whatever profiling finds: no guard against running out"
        + (f"; {format_bytes(buffer)} stay free against fragmentation" if buffer else ""),
        alternative=waterfall.kv_basis != "given" and not buffer,
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
        value, why = found.request.concurrency, "the wanted concurrency"
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
