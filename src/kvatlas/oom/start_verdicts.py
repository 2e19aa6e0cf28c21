"""The three refusals that are about vLLM's own budget: free memory, the KV cache, its length.

Owns: their arithmetic: shares of the device, bytes and blocks that lack. Leaves to others: other
refusals (`refusal_verdict`), planning before a start (`kvatlas.budget`).
"""

from __future__ import annotations

import math

from kvatlas.budget.measured import Measured
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.refusals import Refusal
from kvatlas.oom.verdict import OomVerdict, Remedy, Step
from kvatlas.units import format_bytes

__all__ = ["UTILIZATION", "busy_device", "more_ranks", "nothing_left", "share_above", "too_long"]

UTILIZATION = "--gpu-memory-utilization"


def busy_device(refusal: Refusal, block: KvBlock | None) -> OomVerdict:
    """Return why a device is not free enough, and the share of it that is."""
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
                setting=f"{UTILIZATION} {share:.2f}",
                kv_bytes=short,
                kv_blocks=blocks,
            )
        )
    where = f"The device {refusal.where}".rstrip()
    holders = "other processes, a server that has not ended yet, this process's own CUDA context"
    if refusal.where.startswith("node"):
        holders = "other processes, and what the kernel keeps"
        where = f"The host's memory, {refusal.where},"
    return OomVerdict(
        cause="busy-device",
        line=f"{where} is not free: vLLM may use {format_bytes(asked)} "
        f"({refusal.share:g} of {format_bytes(total)}), and {format_bytes(free)} were free."
        if refusal.share is not None
        else f"{where} is not free: {format_bytes(asked)} asked, {format_bytes(free)} free.",
        reasons=(f"{format_bytes(max(0, total - free))} were taken before vLLM began: {holders}.",),
        steps=(
            Step("free on the device", free, free, False),
            Step("taken by others", max(0, total - free), total, total >= asked),
        ),
        remedies=tuple(remedies),
        notes=("A server that was killed can hold its memory for some seconds more.",),
    )


def nothing_left(facts: Measured) -> OomVerdict:
    """Return why nothing is left for the KV cache, and the share from which on there is."""
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
                        setting=share_above(wanted, total),
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
            text="Let vLLM use more of the device.", setting=f"{UTILIZATION} 0.95", basis="advice"
        )
        if not remedies
        else Remedy(text="Capture no graphs.", setting="--enforce-eager", basis="advice"),
        Remedy(
            text="Make the profile run's step smaller.",
            setting="--max-num-batched-tokens, --max-num-seqs",
            basis="advice",
        ),
        more_ranks(),
    ]
    return OomVerdict(
        cause="no-kv-cache",
        line=line,
        reasons=tuple(reasons),
        remedies=tuple(remedies),
        notes=("`kvatlas budget --model ... --device ... --log LOG` shows every term.",),
    )


def too_long(refusal: Refusal, facts: Measured, block: KvBlock | None) -> OomVerdict:
    """Return how long a request may be, and what makes the wanted one fit."""
    tokens, most = refusal.tokens or 0, refusal.most_tokens
    needed, there = refusal.asked_bytes, refusal.free_bytes
    remedies: list[Remedy] = []
    steps: tuple[Step, ...] = ()
    if not needed or there is None:  # a tiny model prints 0.0 GiB
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
    if needed and there:
        total, requested = facts.total_bytes, facts.requested_bytes
        wanted = None if requested is None else requested + needed - there
        if total and wanted is not None and wanted < (facts.free_at_start_bytes or total):
            remedies.append(
                Remedy(text="Let vLLM use more of the device.", setting=share_above(wanted, total))
            )
        if needed <= 2 * there:
            remedies.append(
                Remedy(
                    text="Keep keys and values in 8 bits: half the bytes, where they have 16 now.",
                    setting="--kv-cache-dtype fp8",
                )
            )
    remedies.append(more_ranks())
    return OomVerdict(cause="length", line=line, steps=steps, remedies=tuple(remedies))


def more_ranks() -> Remedy:
    """Return the advice that helps where weights are too large."""
    return Remedy(
        text="More ranks, or weights of fewer bits.",
        setting="--tensor-parallel-size, --quantization",
        basis="advice",
    )


def _below(size: int, total: int) -> float:
    """Return the largest share of two decimals that does not exceed `size`; vLLM rounds up."""
    return max(0.0, math.floor(100 * (size - 1) / total) / 100) if total else 0.0


def share_above(size: int | None, total: int | None) -> str:
    """Return the flag of the smallest share of two decimals above `size`."""
    if not size or not total:
        return UTILIZATION
    return f"{UTILIZATION} {min(1.0, math.floor(100 * size / total + 1) / 100):.2f}"
