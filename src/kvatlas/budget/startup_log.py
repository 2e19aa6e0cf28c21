"""What a vLLM server said about memory when it started.

Owns: which lines count, in the words of vLLM 0.6 to 0.32, and the figures in them. Leaves to
others: what they mean together (`measured`).

A log is untrusted: it is read line by line up to a bound, a line is cut at a bound, and every
pattern is a fixed form with bounded numbers, so that no line takes long.

Source: vllm/v1/worker/gpu_worker.py, v1/worker/gpu_model_runner.py, v1/worker/gpu/model_runner.py,
v1/core/kv_cache_utils.py, v1/engine/core.py (0.32.0); older forms as public logs show them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kvatlas.errors import InputError

__all__ = ["LogFacts", "StartupLog", "read_startup_log"]

MOST_BYTES = 256 << 20
_MOST_LINE = 16 << 10
_MOST_WORKERS = 4096
_GIB = 1 << 30

_NUMBER = r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_COUNT = r"([0-9][0-9,]{0,15})"
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
_WHO = re.compile(r"\((\w{1,40}) pid=[0-9]{1,12}\)")
_CONFIG_VALUE = {
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
_VERSION = re.compile(r"LLM engine \(v([^)\s]{1,60})\)")

_GIB_LINES: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
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
_PHRASES = ("GiB", " GB", "oncurrency", "KV cache size", " blocks: ", "attention block size",
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


@dataclass(slots=True)
class StartupLog:
    """A whole log.

    Attributes:
        file: where it was read.
        version: vLLM's, None when it does not say.
        runner: the model runner whose lines these are, v1 or v2; None when no line tells.
        config: settings by vLLM's names, as printed.
        workers: what each process said, by its name in the log; "" where processes have none.
        starts: how often a server started in it; the figures are those of the last one.
        cut: whether the log was longer than what is read.
    """

    file: str
    version: str | None = None
    runner: str | None = None
    config: dict[str, str] = field(default_factory=dict)
    workers: dict[str, LogFacts] = field(default_factory=dict)
    starts: int = 0
    cut: bool = False

    @property
    def says_something(self) -> bool:
        """Whether any process said how much memory something takes."""
        return any(facts.gib for facts in self.workers.values())


def read_startup_log(path: str | Path) -> StartupLog:
    """Return what the log at `path` says; cost O(bytes), up to 256 MiB.

    Raises:
        InputError: no such file, or no line of it is about memory.
    """
    reader = _Reader(StartupLog(file=str(path)))
    left = MOST_BYTES
    try:
        with Path(path).open("rb") as file:
            while left > 0:
                raw = file.readline(min(_MOST_LINE, left))
                if not raw:
                    break
                left -= len(raw)
                reader.take(raw.decode("utf-8", "replace"))
            reader.log.cut = left <= 0 and bool(file.read(1))
    except OSError as error:
        raise InputError(
            "cannot read the log", file=path, value=error.strerror, remedy="name a log file"
        ) from None
    log = reader.finished()
    if not log.says_something:
        raise InputError(
            "no line of vLLM's about memory in this log",
            file=path,
            remedy="give the output of `vllm serve` from its start; VLLM_LOGGING_LEVEL must be "
            "INFO or DEBUG",
        )
    return log


class _Reader:
    """Takes line after line, and begins anew when an engine of the same name starts again."""

    def __init__(self, log: StartupLog) -> None:
        self.log = log
        self._engines: set[str] = set()
        self._before: StartupLog | None = None

    def take(self, line: str) -> None:
        line = _COLOUR.sub("", line) if "\x1b" in line else line
        if not any(phrase in line for phrase in _PHRASES):
            return
        if "model_runner.py:" in line:
            self.log.runner = "v1" if "gpu_model_runner.py:" in line else "v2"
        found = _WHO.search(line[:200])
        who = found[1] if found else ""
        if version := _VERSION.search(line):
            self._start(version[1], line, who)
            return
        workers = self.log.workers
        facts = workers.get(who) or LogFacts()
        if _take(facts, line) and (who in workers or len(workers) < _MOST_WORKERS):
            workers[who] = facts

    def finished(self) -> StartupLog:
        """Return the last start that says something: one may have failed before it could."""
        if not self.log.says_something and self._before is not None:
            self._before.starts, self._before.cut = self.log.starts, self.log.cut
            return self._before
        return self.log

    def _start(self, version: str, line: str, who: str) -> None:
        if who in self._engines or not self._engines:
            if self.log.says_something:
                self._before = self.log
            self._engines.clear()
            self.log = StartupLog(file=self.log.file, starts=self.log.starts + 1)
        self._engines.add(who)
        self.log.version = version
        for name, pattern in _CONFIG_VALUE.items():
            if value := pattern.search(line):
                self.log.config[name] = value[1]


def _take(facts: LogFacts, line: str) -> bool:
    """Put what the line says into `facts`; say whether it said anything."""
    took = False
    for phrase, pattern, names in _GIB_LINES:
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
