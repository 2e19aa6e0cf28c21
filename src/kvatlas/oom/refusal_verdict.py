"""Why vLLM refused to start, and what would make it start.

Owns: the sentence and the remedies of every refusal. Leaves to others: its words (`refusals`).
"""

from __future__ import annotations

import math

from kvatlas.budget.measured import Measured, measured
from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.refusals import Refusal
from kvatlas.oom.verdict import OomVerdict, Remedy, Step
from kvatlas.units import format_bytes

__all__ = ["refusal_verdict"]

_UTILIZATION = "--gpu-memory-utilization"


def refusal_verdict(
    refusal: Refusal, *, startup: StartupLog | None = None, block: KvBlock | None = None
) -> OomVerdict:
    """Return the verdict on one refusal; O(1).

    `startup`: what the server said before; `block`: one KV block, to say costs in blocks.
    """
    facts = Measured(worker="") if startup is None else measured(startup)
    match refusal.kind:
        case "free-memory":
            return _busy(refusal, block)
        case "external-weights":
            return OomVerdict(
                cause="no-kv-cache",
                line=f"Weights held by another process take {_size(refusal.asked_bytes)}, and vLLM "
                f"may use {_size(refusal.free_bytes)} in all.",
                remedies=(
                    Remedy(
                        text="Let vLLM use more of the device.",
                        setting=_above(refusal.asked_bytes, refusal.total_bytes),
                    ),
                ),
            )
        case "no-blocks":
            return _no_blocks(facts)
        case "length":
            return _length(refusal, facts, block)
        case "profiling":
            return _moved(refusal)
        case "warm-up":
            return _warm_up(refusal)
        case "weights":
            return OomVerdict(
                cause="capacity",
                line="Too little memory while loading weights: they do not fit on one rank.",
                remedies=(_more_ranks(),),
            )
        case "mamba-blocks":
            return OomVerdict(
                cause="too-many-requests",
                line=f"{refusal.tokens or 0:,} requests at once need a Mamba state each, and there "
                f"are {refusal.most_tokens or 0:,} blocks.",
                remedies=(
                    Remedy(
                        text="Run fewer requests at once.",
                        setting=f"--max-num-seqs {refusal.most_tokens or 0}",
                        basis="vLLM's figure",
                    ),
                ),
            )
        case "driver":
            return _driver(refusal, facts, block, startup)
        case "host":
            return OomVerdict(
                cause="host-memory",
                line=f"Host memory, not the device's: {_size(refusal.asked_bytes)} were refused.",
                remedies=(
                    Remedy(
                        text="Give the machine or the container more memory, or vLLM less of it: "
                        "swap space, CPU offload and pinned buffers are host memory.",
                        basis="advice",
                    ),
                ),
            )
    return OomVerdict(
        cause="request-size",
        line="More than an exabyte was asked for: a size that overflowed, not memory that is full.",
        remedies=(
            Remedy(
                text="Look at the shape that the failing call computes: a negative or "
                "uninitialised length.",
                basis="advice",
            ),
        ),
    )


def _busy(refusal: Refusal, block: KvBlock | None) -> OomVerdict:
    free, total, asked = (
        refusal.free_bytes or 0,
        refusal.total_bytes or 0,
        refusal.asked_bytes or 0,
    )
    short = max(0, asked - free)
    share = _below(free, total)
    blocks = None if block is None else block.blocks(short)
    costs = f", which takes {format_bytes(short)} from the KV cache"
    if block is not None and blocks is not None:
        costs += f": {blocks:,} blocks of {format_bytes(block.size_bytes)}"
    remedies = [Remedy(text=f"Free {format_bytes(short)} that others hold on it.")]
    if share > 0:
        remedies.append(
            Remedy(
                text=f"Take only what is free{costs}.",
                setting=f"{_UTILIZATION} {share:.2f}",
                kv_bytes=short,
                kv_blocks=blocks,
            )
        )
    where = f" {refusal.where}" if refusal.where else ""
    return OomVerdict(
        cause="busy-device",
        line=f"The device{where} is not free: vLLM may use {format_bytes(asked)} "
        f"({refusal.share:g} of {format_bytes(total)}), and {format_bytes(free)} were free."
        if refusal.share is not None
        else f"The device{where} is not free: {format_bytes(asked)} asked, "
        f"{format_bytes(free)} free.",
        reasons=(
            f"{format_bytes(max(0, total - free))} were taken before vLLM began: other processes, "
            "a server that has not ended yet, and this process's own CUDA context.",
        ),
        steps=(
            Step("free on the device", free, free, False),
            Step("taken by others", max(0, total - free), total, total >= asked),
        ),
        remedies=tuple(remedies),
        notes=("A server that was killed can hold its memory for some seconds more.",),
    )


def _no_blocks(facts: Measured) -> OomVerdict:
    reasons, remedies = [], []
    line = "Nothing is left for the KV cache: weights, activations and graphs take all that "
    line += "vLLM may use."
    if facts.kv_bytes is not None:
        short = -facts.kv_bytes
        line = (
            f"Nothing is left for the KV cache: weights, activations and graphs take "
            f"{format_bytes(max(0, short))} more than vLLM may use."
        )
        total, free = facts.total_bytes, facts.free_at_start_bytes
        if total and facts.requested_bytes is not None:
            wanted = facts.requested_bytes + short
            if free is None or wanted < free:
                remedies.append(
                    Remedy(
                        text="Let vLLM use more of the device; from here on there is a KV cache.",
                        setting=_above(wanted, total),
                    )
                )
    for name, size in (
        ("Weights", facts.weight_bytes),
        ("Activations", facts.activation_bytes),
        ("CUDA graphs, estimated", facts.graph_bytes),
        ("Outside PyTorch", facts.outside_bytes),
    ):
        if size:
            reasons.append(f"{name}: {format_bytes(size)}.")
    remedies += [
        Remedy(
            text="Let vLLM use more of the device.", setting=f"{_UTILIZATION} 0.95", basis="advice"
        )
        if not remedies
        else Remedy(text="Capture no graphs.", setting="--enforce-eager", basis="advice"),
        Remedy(
            text="Make the profile run's step smaller.",
            setting="--max-num-batched-tokens, --max-num-seqs",
            basis="advice",
        ),
        _more_ranks(),
    ]
    return OomVerdict(
        cause="no-kv-cache",
        line=line,
        reasons=tuple(reasons),
        remedies=tuple(remedies),
        notes=("`kvatlas budget --model ... --device ... --log LOG` shows every term.",),
    )


def _length(refusal: Refusal, facts: Measured, block: KvBlock | None) -> OomVerdict:
    tokens, most = refusal.tokens or 0, refusal.most_tokens
    needed, there = refusal.asked_bytes, refusal.free_bytes
    remedies: list[Remedy] = []
    steps: tuple[Step, ...] = ()
    if needed is None or there is None:
        line = (
            f"One request of {tokens:,} tokens does not fit: the KV cache holds {most or 0:,} "
            "tokens."
        )
    else:
        short = max(0, needed - there)
        line = (
            f"One request of {tokens:,} tokens does not fit: it needs {format_bytes(needed)} of "
            f"KV cache, and {format_bytes(there)} are left; {format_bytes(short)} short."
        )
        if block is not None:
            line = line[:-1] + f", {block.blocks(short):,} blocks."
        steps = (Step("left for the KV cache", there, there, False),)
    if most:
        remedies.append(
            Remedy(
                text=f"Allow requests of {most:,} tokens at most.",
                setting=f"--max-model-len {most}",
                basis="vLLM's figure",
            )
        )
    elif needed and there:
        guess = max(1, math.floor(tokens * there / needed) // 16 * 16)
        remedies.append(
            Remedy(
                text=f"Allow requests of about {guess:,} tokens at most, if every layer keeps "
                "every token.",
                setting=f"--max-model-len {guess}",
            )
        )
    if needed is not None and there is not None:
        total, requested = facts.total_bytes, facts.requested_bytes
        wanted = None if requested is None else requested + needed - there
        if total and wanted is not None and wanted < (facts.free_at_start_bytes or total):
            remedies.append(
                Remedy(text="Let vLLM use more of the device.", setting=_above(wanted, total))
            )
        if needed <= 2 * there:
            remedies.append(
                Remedy(
                    text="Keep keys and values in 8 bits: half the bytes, where they have 16 now.",
                    setting="--kv-cache-dtype fp8",
                )
            )
    remedies.append(_more_ranks())
    return OomVerdict(cause="length", line=line, steps=steps, remedies=tuple(remedies))


def _moved(refusal: Refusal) -> OomVerdict:
    more = max(0, (refusal.free_bytes or 0) - (refusal.asked_bytes or 0))
    return OomVerdict(
        cause="memory-moved",
        line=f"While vLLM profiled, others released {format_bytes(more)} on the device: what it "
        "measured is worth nothing, so it stopped.",
        remedies=(
            Remedy(
                text="Start one server at a time on a device, and wait until an ended one is gone.",
                basis="advice",
            ),
        ),
    )


def _warm_up(refusal: Refusal) -> OomVerdict:
    what = refusal.where or "sampler"
    half = max(1, (refusal.tokens or 2) // 2)
    return OomVerdict(
        cause="too-many-requests",
        line=f"Too little memory while warming up the {what} with {refusal.tokens or 0:,} "
        "requests: the KV cache is made already, and this is the largest batch.",
        remedies=(
            Remedy(
                text="Run fewer requests at once.",
                setting=f"--max-num-seqs {half}",
                basis="advice",
            ),
            Remedy(
                text="Leave more outside the KV cache.",
                setting=f"{_UTILIZATION}, lower",
                basis="advice",
            ),
        ),
    )


def _driver(
    refusal: Refusal, facts: Measured, block: KvBlock | None, startup: StartupLog | None
) -> OomVerdict:
    library = {"NCCL": "NCCL", "CUBLAS": "cuBLAS"}.get(refusal.where, "The driver")
    share = ""
    if facts.requested_bytes and facts.total_bytes:
        now = facts.requested_bytes / facts.total_bytes
        share = f" {max(0.01, round(100 * now - 3) / 100):.2f}"
    return OomVerdict(
        cause="outside-pytorch",
        line=f"{library} ran out of memory outside PyTorch's allocator: a CUDA graph, a library's "
        "workspace or a context found no room, and nobody released any for it.",
        remedies=(
            Remedy(
                text="Leave more of the device to what is outside PyTorch.",
                setting=f"{_UTILIZATION}{share or ', lower'}",
                basis="advice",
                kv_bytes=0,
                kv_blocks=None,
            ),
            Remedy(
                text="Capture fewer CUDA graphs, or none.",
                setting="--cudagraph-capture-sizes, --enforce-eager",
                basis="advice",
            ),
        ),
        notes=("Such an error says no figures; PyTorch's own message in the same log would.",),
    )


def _more_ranks() -> Remedy:
    return Remedy(
        text="More ranks, or weights of fewer bits.",
        setting="--tensor-parallel-size, --quantization",
        basis="advice",
    )


def _below(size: int, total: int) -> float:
    """Return the largest share of two decimals that does not exceed `size`; vLLM rounds up."""
    return max(0.0, math.floor(100 * (size - 1) / total) / 100) if total else 0.0


def _above(size: int | None, total: int | None) -> str:
    """Return the flag of the smallest share of two decimals above `size`."""
    if not size or not total:
        return _UTILIZATION
    return f"{_UTILIZATION} {min(1.0, math.floor(100 * size / total + 1) / 100):.2f}"


def _size(size: int | None) -> str:
    return "an unknown amount" if size is None else format_bytes(size)
