"""Why vLLM refused to start, and what would make it start.

Owns: the sentence and the remedies of every refusal. Leaves to others: its words (`refusals`).
"""

from __future__ import annotations

from kvatlas.budget.measured import Measured, measured
from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.refusals import Refusal
from kvatlas.oom.start_verdicts import (
    UTILIZATION,
    busy_device,
    more_ranks,
    nothing_left,
    share_above,
    too_long,
)
from kvatlas.oom.verdict import OomVerdict, Remedy
from kvatlas.units import format_bytes

__all__ = ["refusal_verdict"]


def refusal_verdict(
    refusal: Refusal, *, startup: StartupLog | None = None, block: KvBlock | None = None
) -> OomVerdict:
    """Return the verdict on one refusal; O(1).

    `startup`: what the server said before; `block`: one KV block, to say costs in blocks.
    """
    facts = Measured(worker="") if startup is None else measured(startup)
    match refusal.kind:
        case "free-memory":
            return busy_device(refusal, block)
        case "external-weights":
            return OomVerdict(
                cause="no-kv-cache",
                line=f"Weights held by another process take {_size(refusal.asked_bytes)}, and vLLM "
                f"may use {_size(refusal.free_bytes)} in all.",
                remedies=(
                    Remedy(
                        text="Let vLLM use more of the device.",
                        setting=share_above(refusal.asked_bytes, refusal.total_bytes),
                    ),
                ),
            )
        case "no-blocks":
            return nothing_left(facts)
        case "length":
            return too_long(refusal, facts, block)
        case "profiling":
            return _moved(refusal)
        case "warm-up":
            return _warm_up(refusal)
        case "weights":
            return OomVerdict(
                cause="capacity",
                line="Too little memory while loading weights: they do not fit on one rank.",
                remedies=(more_ranks(),),
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
                setting=f"{UTILIZATION}, lower",
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
                setting=f"{UTILIZATION}{share or ', lower'}",
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


def _size(size: int | None) -> str:
    return "an unknown amount" if size is None else format_bytes(size)
