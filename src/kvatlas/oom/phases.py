"""When in a server's life it failed: while it loaded, profiled, captured graphs, or served.

Owns: the phases, and which calls and lines tell them. Leaves to others: reading a log.

Source: the method names of vllm/v1/worker/gpu_worker.py and its model runners, of vLLM 0.6 to 0.32.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["CALL", "PHASE_PHRASES", "PHASE_WORDS", "Call", "Phase", "phase_of_calls",
           "phase_of_line"]  # fmt: skip

Phase = Literal["loading", "profiling", "kv-cache", "warm-up", "graphs", "serving"]

PHASE_WORDS: dict[Phase, str] = {
    "loading": "while loading weights",
    "profiling": "in the profile run",
    "kv-cache": "while the KV cache was made",
    "warm-up": "while warming up",
    "graphs": "while capturing CUDA graphs",
    "serving": "while serving",
}

CALL = re.compile(r'File \\?"([^"]{1,400}?)\\?", line ([0-9]{1,9}), in ([^\s\\"]{1,120})')

# The first of these that is anywhere on the stack tells: the outer calls are in several phases.
_CALLS: tuple[tuple[frozenset[str], Phase], ...] = (
    (frozenset({"load_model", "load_weights"}), "loading"),
    (
        frozenset({"profile_run", "determine_available_memory", "determine_num_available_blocks"}),
        "profiling",
    ),
    (
        frozenset({"_dummy_sampler_run", "_dummy_pooler_run", "kernel_warmup", "warmup_kernels"}),
        "warm-up",
    ),
    (frozenset({"capture_model", "_capture_cudagraphs", "capture_graph"}), "graphs"),
    (
        frozenset(
            {
                "initialize_kv_cache",
                "_allocate_kv_cache_tensors",
                "_allocate_kv_cache",
                "get_kv_cache_configs",
            }
        ),
        "kv-cache",
    ),
    (frozenset({"compile_or_warm_up_model"}), "warm-up"),
    (frozenset({"execute_model", "run_busy_loop", "sample_tokens"}), "serving"),
)

# Lines after which a phase is under way.
_LINES: tuple[tuple[str, Phase], ...] = (
    ("Starting to load model", "loading"),
    ("Loading safetensors", "loading"),
    ("Model loading took", "profiling"),
    ("Loading model weights took", "profiling"),
    ("Available KV cache memory", "kv-cache"),
    ("# GPU blocks", "kv-cache"),
    ("Capturing CUDA graph", "graphs"),
    ("Capturing cudagraphs", "graphs"),
    ("Graph capturing finished", "warm-up"),
    ("init engine (", "serving"),
    ("Application startup complete", "serving"),
)
PHASE_PHRASES = tuple(phrase for phrase, _ in _LINES)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a traceback, as Python prints it."""

    file: str
    line: int
    name: str


def phase_of_calls(calls: Iterable[Call]) -> Phase | None:
    """Return the phase that a traceback's calls tell, None when they do not."""
    names = {call.name for call in calls}
    return next((phase for known, phase in _CALLS if names & known), None)


def phase_of_line(line: str) -> Phase | None:
    """Return the phase that begins with a line, None for a line that tells nothing."""
    return next((phase for phrase, phase in _LINES if phrase in line), None)
