"""vLLM's own refusals to start, and failures of the driver that come without PyTorch's figures.

Owns: every pattern and the figures in it. Leaves to others: finding lines in a log (`failure_log`),
what to do about one (`refusal_verdict`).

Source: vllm/v1/core/kv_cache_utils.py, v1/worker/utils.py, v1/worker/gpu_worker.py,
v1/worker/gpu_model_runner.py, v1/worker/cpu_worker.py, config/compilation.py (0.32.0); older forms
as public logs of 0.2 to 0.27 show them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["REFUSAL_PHRASES", "Refusal", "RefusalKind", "parse_refusal"]

RefusalKind = Literal[
    "free-memory",
    "external-weights",
    "no-blocks",
    "length",
    "profiling",
    "warm-up",
    "weights",
    "mamba-blocks",
    "driver",
    "host",
    "request-size",
]

_NUMBER = r"(-?[0-9]{1,20}(?:\.[0-9]{1,12})?)"
_COUNT = r"([0-9]{1,18})"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refusal.

    Attributes:
        kind: which.
        where: a device's name, what was being warmed up, or the library that failed; "" if unsaid.
        free_bytes, total_bytes, asked_bytes: as printed: GiB with two decimals.
        share: the memory utilization that was asked for.
        tokens: the length, requests or blocks asked for; most_tokens: what would do, by vLLM.
    """

    kind: RefusalKind
    where: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    asked_bytes: int | None = None
    share: float | None = None
    tokens: int | None = None
    most_tokens: int | None = None


# (phrase that the line must hold, kind, pattern with named groups)
_TEXTS: tuple[tuple[str, RefusalKind, str], ...] = (
    (
        "is less than desired",
        "free-memory",
        rf"(?:Free memory on device|Available memory on) ?(?P<where>(?:node )?[^\s(]{{0,40}}) ?"
        rf"\((?P<free>{_NUMBER})/(?P<total>{_NUMBER}) GiB\) on startup is less than desired "
        rf"[GC]PU memory utilization \((?P<share>[0-9.]{{1,20}}), (?P<asked>{_NUMBER}) GiB\)",
    ),
    (
        "engine's budget after excluding",
        "free-memory",
        rf"Free memory on device (?P<where>[^\s(]{{0,40}}) ?"
        rf"\((?P<free>{_NUMBER})/(?P<total>{_NUMBER}) GiB\) on startup is less than the "
        r"engine's budget after excluding external process's weights "
        rf"\((?P<share>[0-9.]{{1,20}}), (?P<asked>{_NUMBER}) GiB\)",
    ),
    (
        "Externally held weights",
        "external-weights",
        rf"Externally held weights on device (?P<where>[^\s(]{{0,40}}) ?"
        rf"\((?P<asked>{_NUMBER})/(?P<total>{_NUMBER}) GiB\) exceed the desired GPU memory "
        rf"utilization \((?P<share>[0-9.]{{1,20}}), (?P<free>{_NUMBER}) GiB\)",
    ),
    (
        "No available memory for the cache blocks",
        "no-blocks",
        "No available memory for the cache blocks",
    ),
    ("Cannot auto-fit max_model_len", "no-blocks", "Cannot auto-fit max_model_len"),
    (
        "KV cache is needed, which is larger",
        "length",
        rf"max seq len \((?P<tokens>{_COUNT})\), \(?(?P<asked>{_NUMBER}) GiB KV cache is "
        rf"needed, which is larger than the available KV cache memory \((?P<free>{_NUMBER}) "
        rf"GiB\)(?:[^(]{{0,80}}?the estimated maximum model length is (?P<most>{_COUNT}))?",
    ),
    (
        "that can be stored in KV cache",
        "length",
        rf"max seq len \((?P<tokens>{_COUNT})\) is larger than the maximum number of tokens "
        rf"that can be stored in KV cache \((?P<most>{_COUNT})\)",
    ),
    (
        "Error in memory profiling",
        "profiling",
        rf"Error in memory profiling\. Initial free memory (?P<asked>{_NUMBER}) ?(?:GiB)?, "
        rf"current free memory (?P<free>{_NUMBER})",
    ),
    (
        "out of memory occurred when warming up",
        "warm-up",
        r"out of memory occurred when warming up (?P<where>sampler|pooler)[^.]{0,60}? with "
        rf"(?P<tokens>{_COUNT}) dummy requests",
    ),
    (
        "Failed to load model - not enough GPU memory",
        "weights",
        "Failed to load model - not enough GPU memory",
    ),
    (
        "exceeds available Mamba cache",
        "mamba-blocks",
        rf"max_num_seqs \((?P<tokens>{_COUNT})\) exceeds available Mamba cache blocks "
        rf"\((?P<most>{_COUNT})\)",
    ),
    ("Tried to allocate more than 1EB", "request-size", "Tried to allocate more than 1EB"),
    ("CUDA error: out of memory", "driver", "(?P<where>CUDA) error: out of memory"),
    ("HIP error: out of memory", "driver", "(?P<where>HIP) error: out of memory"),
    ("Cuda failure", "driver", r"(?:(?P<where>NCCL).{0,200})?Cuda failure (?:2 )?'out of memory'"),
    ("CUBLAS_STATUS_ALLOC_FAILED", "driver", "(?P<where>CUBLAS)_STATUS_ALLOC_FAILED"),
    (
        "DefaultCPUAllocator",
        "host",
        rf"DefaultCPUAllocator: (?:can't|not enough|can not) .{{0,40}}you tried to allocate "
        rf"(?P<asked>{_COUNT}) bytes",
    ),
)
_FORMS = tuple((phrase, kind, re.compile(pattern)) for phrase, kind, pattern in _TEXTS)
REFUSAL_PHRASES = tuple(phrase for phrase, _, _ in _FORMS)
"""Every line that is a refusal holds one of them."""


def parse_refusal(line: str) -> Refusal | None:
    """Return the refusal in a line, None without one; every pattern is of bounded length."""
    for phrase, kind, pattern in _FORMS:
        if phrase in line and (found := pattern.search(line)) is not None:
            return _refusal(kind, found.groupdict(), found[0])
    return None


def _refusal(kind: RefusalKind, said: dict[str, str | None], text: str) -> Refusal:
    unit = _GIB if "GiB" in text else 1
    return Refusal(
        kind=kind,
        where=said.get("where") or "",
        free_bytes=_size(said.get("free"), unit),
        total_bytes=_size(said.get("total"), unit),
        asked_bytes=_size(said.get("asked"), unit),
        share=_share(said.get("share")),
        tokens=_count(said.get("tokens")),
        most_tokens=_count(said.get("most")),
    )


def _size(text: str | None, unit: int) -> int | None:
    return None if text is None else round(float(text) * unit)


def _count(text: str | None) -> int | None:
    return None if text is None else int(text)


def _share(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # "0.9.2"
