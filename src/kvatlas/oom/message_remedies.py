"""What to change after PyTorch's message, and how to say to vLLM that the KV cache gives way.

Owns: remedies that figures alone allow. Leaves to others: the cause (`message_verdict`), settings
that were replayed (`snapshot_remedies`).
"""

from __future__ import annotations

import math

from kvatlas.budget.measured import measured
from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message import OomMessage
from kvatlas.oom.phases import Phase
from kvatlas.oom.verdict import Cause, Remedy
from kvatlas.units import format_bytes

__all__ = ["POOLS_REMEDY", "SMALLER_REQUEST", "give_up", "message_remedies"]

_CUDA = "PYTORCH_CUDA_ALLOC_CONF"
_VARIABLES = {"HIP": "PYTORCH_HIP_ALLOC_CONF", "XPU": "PYTORCH_ALLOC_CONF"}


POOLS_REMEDY = Remedy(
    text="Capture fewer or smaller CUDA graphs: their pools keep what they do not use. With sleep "
    "mode the pool is that of vLLM's cumem allocator.",
    setting="--cudagraph-capture-sizes, --enforce-eager",
    basis="advice",
)
"""What to change where private pools keep what others need."""

SMALLER_REQUEST = Remedy(
    text="Make this request smaller: it is beyond what giving up the KV cache can free. Its size "
    "comes from the call that failed: a batch, a sequence times a sequence or a vocabulary, or a "
    "length that is wrong.",
    setting="--max-num-batched-tokens, --max-num-seqs, --max-model-len",
    basis="advice",
)
"""What to change where live blocks are less than what lacks."""


def give_up(
    size_bytes: int,
    block: KvBlock | None,
    startup: StartupLog | None,
    total_bytes: int | None,
    *,
    why: str = "",
    setting: str = "",
) -> Remedy:
    """Return the remedy of a smaller KV cache: so many bytes less, and how to say that to vLLM.

    `why`: what the sentence begins with; `setting`: what else has to be set for it.
    """
    blocks = None if block is None else block.blocks(size_bytes)
    size = size_bytes if block is None or blocks is None else blocks * block.size_bytes
    facts = None if startup is None else measured(startup)
    flag = ""
    if facts is not None and facts.kv_bytes is not None and facts.kv_bytes > size:
        flag = f"--kv-cache-memory-bytes {(facts.kv_bytes - size) >> 20 << 20}"
    elif startup is not None and total_bytes and (now := _share(startup)) is not None:
        lower = math.floor(100 * now - 100 * size / total_bytes + 1e-9) / 100
        flag = f"--gpu-memory-utilization {max(0.0, lower):.2f}"
    elif total_bytes:
        share = -(-100 * size // total_bytes) / 100
        flag = f"--gpu-memory-utilization lower by {share:.2f}"
    setting = ", ".join(part for part in (setting, flag) if part)
    text = f"{why}: leave" if why else "Leave"
    text += f" {format_bytes(size)} more outside the KV cache"
    if block is not None and blocks is not None:
        about = "" if block.exact else "about "
        text += f": {about}{blocks:,} KV blocks of {format_bytes(block.size_bytes)} less"
    return Remedy(text=f"{text}.", setting=setting, kv_bytes=size, kv_blocks=blocks)


def _share(startup: StartupLog) -> float | None:
    """Return the share of the device that a server was started with, None where unsaid."""
    facts = measured(startup)
    if facts.requested_bytes and facts.total_bytes:
        return facts.requested_bytes / facts.total_bytes
    said = startup.config.get("gpu_memory_utilization", "")
    try:
        return min(1.0, float(said))
    except ValueError:
        return None


def message_remedies(
    message: OomMessage,
    cause: Cause,
    phase: Phase | None,
    startup: StartupLog | None,
    block: KvBlock | None,
    short: int,
) -> list[Remedy]:
    """Return what to change, the best first.

    Args:
        short: bytes that were asked for beyond what was available.
    """
    found: list[Remedy] = []
    if cause == "memory-fraction":
        found.append(
            Remedy(
                text="Raise or drop the limit: the device has room.",
                setting="torch.cuda.set_per_process_memory_fraction",
                basis="advice",
            )
        )
    if cause == "private-pools":
        found.append(POOLS_REMEDY)
    if cause == "driver-refused":
        found.append(
            Remedy(
                text="See who allocates at the same time: another process may have released in "
                "between, or a pool, a MIG slice or a driver's limit is smaller than the device.",
                basis="advice",
            )
        )
    if cause == "fragmentation":
        found.append(
            Remedy(
                text="Let segments grow instead of lying apart. The message cannot show that it "
                "suffices: a memory snapshot of the failure can.",
                setting=f"{_VARIABLES.get(message.backend, _CUDA)}=expandable_segments:True",
                basis="advice",
            )
        )
    if cause == "other-processes":
        found.append(
            Remedy(
                text=f"Free {format_bytes(short)} that other processes hold.", basis="arithmetic"
            )
        )
    if phase == "loading":
        found.append(
            Remedy(
                text="The weights alone do not fit: more ranks, or weights of fewer bits. The KV "
                "cache is not made yet, so that --gpu-memory-utilization changes nothing here.",
                setting="--tensor-parallel-size, --quantization, --cpu-offload-gb",
                basis="advice",
            )
        )
    elif phase == "profiling":
        found.append(
            Remedy(
                text="The profile run runs the largest step: make steps smaller. The KV cache is "
                "not made yet, so that --gpu-memory-utilization changes nothing here.",
                setting="--max-num-batched-tokens, --max-num-seqs",
                basis="advice",
            )
        )
    elif cause == "request-size" or short > (
        message.total_bytes or short if message.allocated_bytes is None else message.allocated_bytes
    ):
        found.append(SMALLER_REQUEST)
    elif short:
        found.append(give_up(short, block, startup, message.total_bytes))
    if phase == "warm-up":
        found.append(
            Remedy(
                text="The warm-up runs the largest batch: allow fewer requests at once.",
                setting="--max-num-seqs",
                basis="advice",
            )
        )
    if phase == "graphs" and cause != "private-pools":
        found.append(
            Remedy(
                text="Capture fewer or smaller graphs, or none.",
                setting="--cudagraph-capture-sizes, --enforce-eager",
                basis="advice",
            )
        )
    return found
