"""The lines of vLLM's about memory, in the words of its versions, and the figures in them.

Owns: every pattern, what a line puts where, which process says it. Leaves to others: reading a file
(`startup_log`).

Every pattern is a fixed form with bounded numbers, so that no line takes long.

Source: vllm/v1/worker/gpu_worker.py, v1/worker/gpu_model_runner.py, v1/worker/gpu/model_runner.py,
v1/core/kv_cache_utils.py, v1/engine/core.py (0.32.0); older forms as public logs show them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["COLOUR", "CONFIG_VALUE", "GIB_LINES", "PHRASES", "VERSION", "LogFacts", "process_of",
           "take_line"]  # fmt: skip

_NUMBER = r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_COUNT = r"([0-9][0-9,]{0,15})"
COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
# (EngineCore_DP0 pid=17), (VllmWorker-0 pid=1090), (VllmWorker rank=3 pid=1090), and Ray's
# (RayWorkerWrapper pid=1861983, ip=192.168.10.60)
_PROCESS = re.compile(
    r"\(([\w-]{1,40}(?: rank=[0-9]{1,6})?) pid=[0-9]{1,12}(?:, ip=([0-9a-fA-F.:]{1,45}))?\)"
)
_PREFIX = 200
CONFIG_VALUE = {
    name: re.compile(rf"\b{name}=(?:torch\.)?'?([^',\s]{{1,200}})")
    for name in (
        "model",
        "dtype",
        "max_seq_len",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "quantization",
        "enforce_eager",
        "kv_cache_dtype",
    )
}
VERSION = re.compile(r"LLM engine \(v([^)\s]{1,60})\)")

GIB_LINES: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (phrase, re.compile(pattern), names)
    for phrase, pattern, names in (
        ("Model loading took", rf"Model loading took {_NUMBER} Gi?B", ("weights",)),
        ("Loading model weights took", rf"Loading model weights took {_NUMBER} Gi?B", ("weights",)),
        ("Available KV cache memory", rf"Available KV cache memory: {_NUMBER} GiB", ("kv",)),
        (
            "Estimated CUDA graph memory",
            rf"Estimated CUDA graph memory: {_NUMBER} GiB total",
            ("graph_estimate",),
        ),
        (
            "Graph capturing finished",
            rf"Graph capturing finished in [0-9]{{1,9}} secs?, took {_NUMBER} GiB",
            ("graphs",),
        ),
        (
            "CUDA graph pool memory",
            rf"CUDA graph pool memory: {_NUMBER} GiB \(actual\), {_NUMBER} GiB \(estimated\)",
            ("graphs", "graph_estimate"),
        ),
        (
            "Free memory on device",
            rf"Free memory on device (?:\S{{1,20}} )?\({_NUMBER}/{_NUMBER} GiB\) on startup",
            ("free_at_start", "total"),
        ),
        (
            "Desired GPU memory utilization",
            rf"Desired GPU memory utilization is \([0-9.]{{1,20}}, {_NUMBER} GiB\)",
            ("requested",),
        ),
        (
            "GiB for consumed memory",
            rf"Actual usage is {_NUMBER} GiB for consumed memory \(weights \+ non-torch\), "
            rf"{_NUMBER} GiB for peak activation, and {_NUMBER} GiB for CUDAGraph memory",
            ("consumed", "peak_activation", "graphs"),
        ),
        (
            "GiB for weight,",
            rf"Actual usage is {_NUMBER} GiB for weight, {_NUMBER} GiB for peak activation, "
            rf"{_NUMBER} GiB for non-torch memory, and {_NUMBER} GiB for CUDAGraph memory",
            ("weights", "peak_activation", "outside", "graphs"),
        ),
        (
            "model weights take",
            rf"model weights take {_NUMBER} ?GiB; non_torch_memory takes {_NUMBER} ?GiB; PyTorch "
            rf"activation peak memory takes {_NUMBER} ?GiB; the rest of the memory reserved for KV "
            rf"Cache is {_NUMBER} ?GiB",
            ("weights", "outside", "peak_activation", "kv"),
        ),
        (
            "total_gpu_memory",
            rf"total_gpu_memory \({_NUMBER} ?GiB\) x gpu_memory_utilization \([0-9.]{{1,20}}\) = "
            rf"{_NUMBER} ?GiB",
            ("total", "requested"),
        ),
        (
            "Initial free memory",
            rf"Initial free memory {_NUMBER} GiB, reserved",
            ("free_at_start",),
        ),
        (
            "memory for KV Cache as specified",
            rf"reserved {_NUMBER} GiB memory for KV Cache as specified",
            ("kv",),
        ),
        (
            "Current kv cache memory",
            rf"Current kv cache memory in use is {_NUMBER} GiB",
            ("kv_used",),
        ),
    )
)
PHRASES = ("GiB", " GB", "oncurrency", "KV cache size", " blocks: ", "attention block size",
            "CUDA graph memory profiling is", "LLM engine (v")  # fmt: skip
"""Every line that counts holds one of them: most lines are passed over at once."""
_UTILIZATIONS = (
    re.compile(r"Desired GPU memory utilization is \(([0-9.]{1,20}),"),
    re.compile(r"gpu_memory_utilization \(([0-9.]{1,20})\)"),
    re.compile(r"The current --gpu-memory-utilization=([0-9.]{1,20}) is"),
)
_SUGGESTED = re.compile(r"`--kv-cache-memory=(-?[0-9]{1,20})`")
_TOKENS = re.compile(rf"KV cache size: {_COUNT} tokens")
_CONCURRENCY = re.compile(rf"Maximum concurrency for {_COUNT} tokens per request: {_NUMBER}x")
_BLOCKS = re.compile(rf"# (?:GPU|cuda|CUDA) blocks: {_COUNT}")
_ATTENTION_BLOCK = re.compile(r"Setting attention block size to ([0-9]{1,9}) tokens")


@dataclass(slots=True)
class LogFacts:
    """What one process said, each None while it has not.

    Attributes:
        gib: figures as printed, in GiB with two decimals, by name: weights, consumed (weights and
            what is outside PyTorch), peak_activation, outside, graphs, graph_estimate, requested,
            total, free_at_start, kv, kv_used.
        utilization: the share that was asked for.
        suggested: what vLLM proposes for `--kv-cache-memory`: within the share, and at most.
        graphs_in_budget: whether the graphs' estimate was taken off the KV cache.
        kv_tokens, max_len, concurrency, num_blocks, block_size: of the KV cache.
    """

    gib: dict[str, float] = field(default_factory=dict)
    utilization: float | None = None
    suggested: tuple[int, int] | None = None
    graphs_in_budget: bool | None = None
    kv_tokens: int | None = None
    max_len: int | None = None
    concurrency: float | None = None
    num_blocks: int | None = None
    block_size: int | None = None


def process_of(line: str) -> str:
    """Return who says a line, in vLLM's words (under Ray `name@ip`), "" where it does not say."""
    found = _PROCESS.search(line[:_PREFIX])
    if found is None:
        return ""
    return found[1] if found[2] is None else f"{found[1]}@{found[2]}"


def take_line(facts: LogFacts, line: str) -> bool:
    """Put what the line says into `facts`; say whether it said anything."""
    took = False
    for phrase, pattern, names in GIB_LINES:
        if phrase in line and (values := pattern.search(line)):
            for name, value in zip(names, values.groups(), strict=True):
                facts.gib[name] = float(value)
            took = True
    if "utilization" in line:
        for pattern in _UTILIZATIONS:
            if value := pattern.search(line):
                facts.utilization, took = _share(value[1]), True
                break
    if "--kv-cache-memory=" in line:
        suggested = _SUGGESTED.findall(line)
        if len(suggested) == 2:
            facts.suggested, took = (int(suggested[0]), int(suggested[1])), True
    if "CUDA graph memory profiling is" in line:
        facts.graphs_in_budget, took = "profiling is enabled" in line, True
    if value := _TOKENS.search(line):
        facts.kv_tokens, took = _count(value[1]), True
    if value := _CONCURRENCY.search(line):
        facts.max_len, facts.concurrency, took = _count(value[1]), float(value[2]), True
    if value := _BLOCKS.search(line):
        facts.num_blocks, took = _count(value[1]), True
    if value := _ATTENTION_BLOCK.search(line):
        facts.block_size, took = int(value[1]), True
    return took


def _count(text: str) -> int:
    return int(text.replace(",", ""))


def _share(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "1.2.3"
