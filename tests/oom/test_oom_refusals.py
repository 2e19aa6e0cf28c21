"""vLLM's refusals to start: their words in every version, and what would make it start."""

from __future__ import annotations

import pytest

from kvatlas.budget.log_lines import LogFacts
from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom import KvBlock, OomVerdict, Refusal, parse_refusal
from kvatlas.oom.refusal_verdict import refusal_verdict

GIB = 1 << 30
TAIL = "Decrease GPU memory utilization or reduce GPU memory used by other processes."

# Versions 0.9 to 0.32, as public logs and its source have them.
FREE_OLD = (
    "ValueError: Free memory on device (31.44/47.38 GiB) on startup is less than desired GPU "
    f"memory utilization (0.95, 45.01 GiB). {TAIL}"
)
FREE = FREE_OLD.replace("on device (31", "on device cuda:0 (31")
NODE = (
    "ValueError: Available memory on node 0 (9.5/31.3 GiB) on startup is less than desired CPU "
    "memory utilization (0.92, 28.8 GiB). On the CPU backend, the `--gpu-memory-utilization` flag"
)
ENGINE = (
    "ValueError: Free memory on device cuda:1 (3.0/80.0 GiB) on startup is less than the engine's "
    "budget after excluding external process's weights (0.92, 10.0 GiB). Decrease GPU memory"
)
EXTERNAL = (
    "ValueError: Externally held weights on device cuda:0 (75.1/79.2 GiB) exceed the desired GPU "
    "memory utilization (0.92, 72.86 GiB). Increase GPU memory utilization"
)
NO_BLOCKS = (
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` "
    "when initializing the engine."
)
AUTO_FIT = (
    "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even a "
    "single token. Try increasing `gpu_memory_utilization`."
)
TOKENS = (
    "ValueError: The model's max seq len (4096) is larger than the maximum number of tokens that "
    "can be stored in KV cache (3664). Try increasing `gpu_memory_utilization`"
)
LENGTH_OLD = (
    "ValueError: To serve at least one request with the models's max seq len (1048576), (24.00 GiB "
    "KV cache is needed, which is larger than the available KV cache memory (9.97 GiB). Try"
)
LENGTH = (
    "ValueError: To serve at least one request with the model's max seq len (131072), (9.5 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (6.91 GiB). Based on the "
    "available memory, the estimated maximum model length is 91520. Try increasing"
)
LENGTH_GAP = LENGTH.replace("the estimated maximum model length is 91520.", "")
PROFILING = (
    "AssertionError: Error in memory profiling. Initial free memory 3.21 GiB, current free memory "
    "7.5 GiB. This happens when other processes sharing the same container release GPU memory"
)
PROFILING_OLD = (
    "AssertionError: Error in memory profiling. Initial free memory 1000, current free memory "
    "5000. This happens when the GPU memory was not properly cleaned up"
)
SAMPLER = (
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. "
    "Please try lowering `max_num_seqs` or `gpu_memory_utilization`"
)
POOLER = SAMPLER.replace("sampler with", "pooler (task='embed') with")
LOAD = "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free"
MAMBA = (
    "ValueError: max_num_seqs (256) exceeds available Mamba cache blocks (112). Each decode "
    "sequence requires one Mamba cache block"
)


def gib(size: float) -> int:
    """Return bytes of a printed figure."""
    return round(size * GIB)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (FREE_OLD, Refusal(kind="free-memory", free_bytes=gib(31.44), total_bytes=gib(47.38),
                           asked_bytes=gib(45.01), share=0.95)),
        (FREE, Refusal(kind="free-memory", where="cuda:0", free_bytes=gib(31.44),
                       total_bytes=gib(47.38), asked_bytes=gib(45.01), share=0.95)),
        (NODE, Refusal(kind="free-memory", where="node 0", free_bytes=gib(9.5),
                       total_bytes=gib(31.3), asked_bytes=gib(28.8), share=0.92)),
        (ENGINE, Refusal(kind="free-memory", where="cuda:1", free_bytes=gib(3), share=0.92,
                         total_bytes=gib(80), asked_bytes=gib(10))),
        (EXTERNAL, Refusal(kind="external-weights", where="cuda:0", asked_bytes=gib(75.1),
                           total_bytes=gib(79.2), free_bytes=gib(72.86), share=0.92)),
        (NO_BLOCKS, Refusal(kind="no-blocks")),
        (AUTO_FIT, Refusal(kind="no-blocks")),
        (TOKENS, Refusal(kind="length", tokens=4096, most_tokens=3664)),
        (LENGTH_OLD, Refusal(kind="length", tokens=1048576, asked_bytes=gib(24),
                             free_bytes=gib(9.97))),
        (LENGTH, Refusal(kind="length", tokens=131072, asked_bytes=gib(9.5), free_bytes=gib(6.91),
                         most_tokens=91520)),
        (LENGTH_GAP, Refusal(kind="length", tokens=131072, asked_bytes=gib(9.5),
                             free_bytes=gib(6.91))),
        (PROFILING, Refusal(kind="profiling", asked_bytes=gib(3.21), free_bytes=gib(7.5))),
        (PROFILING_OLD, Refusal(kind="profiling", asked_bytes=1000, free_bytes=5000)),
        (SAMPLER, Refusal(kind="warm-up", where="sampler", tokens=256)),
        (POOLER, Refusal(kind="warm-up", where="pooler", tokens=256)),
        (LOAD, Refusal(kind="weights")),
        (MAMBA, Refusal(kind="mamba-blocks", tokens=256, most_tokens=112)),
        ("RuntimeError: CUDA error: out of memory", Refusal(kind="driver", where="CUDA")),
        ("torch.AcceleratorError: HIP error: out of memory", Refusal(kind="driver", where="HIP")),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
         Refusal(kind="driver", where="CUBLAS")),
        ("NCCL WARN Cuda failure 2 'out of memory'", Refusal(kind="driver", where="NCCL")),
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate "
         "memory: you tried to allocate 1024 bytes. Error code 12",
         Refusal(kind="host", asked_bytes=1024)),
        ("CUDA out of memory. Tried to allocate more than 1EB memory.",
         Refusal(kind="request-size")),
        ("INFO: everything is fine", None),
    ],
)  # fmt: skip
def test_the_words_of_every_version(line: str, refusal: Refusal | None) -> None:
    assert parse_refusal(f"(EngineCore pid=1) ERROR [core.py:1] {line}") == refusal


def explained(
    line: str, startup: StartupLog | None = None, block: KvBlock | None = None
) -> OomVerdict:
    """Return the verdict on a line."""
    refusal = parse_refusal(line)
    assert refusal is not None
    return refusal_verdict(refusal, startup=startup, block=block)


def started(**gib_of: float) -> StartupLog:
    """Return what a server said before it refused."""
    utilization = gib_of.pop("utilization", None)
    return StartupLog(file="x", workers={"W": LogFacts(gib=dict(gib_of), utilization=utilization)})


def test_a_busy_device_and_the_largest_share_that_is_free() -> None:
    """31.44 of 47.38 GiB are 0.6635: vLLM rounds up, so that 0.66 is what fits, and 0.67 is not."""
    block = KvBlock(size_bytes=2 << 20, tokens=16, source="given")
    found = explained(FREE, block=block)
    assert found.cause == "busy-device"
    assert "cuda:0" in found.line
    free_it, less = found.remedies
    assert "13.57 GiB" in free_it.text
    assert less.setting == "--gpu-memory-utilization 0.66"
    assert less.kv_blocks == -(-less.kv_bytes // (2 << 20)) == 6948
    assert [step.suffices for step in found.steps] == [False, True]


def test_nothing_left_for_the_cache_and_the_share_from_which_there_is() -> None:
    startup = started(total=22.0, free_at_start=21.6, weights=19.2, kv=-0.3, utilization=0.9)
    found = explained(NO_BLOCKS, startup)
    assert found.cause == "no-kv-cache"
    assert "307.2 MiB more than vLLM may use" in found.line
    # 0.9 * 22 + 0.3 GiB are 0.9136 of it.
    assert found.remedies[0].setting == "--gpu-memory-utilization 0.92"
    assert "Weights: 19.2 GiB." in found.reasons
    full = started(total=22.0, free_at_start=19.9, kv=-0.3, utilization=0.9)
    assert "0.92" not in str(explained(NO_BLOCKS, full).remedies)
    assert explained(AUTO_FIT).cause == "no-kv-cache"


def test_one_request_that_does_not_fit() -> None:
    found = explained(LENGTH, started(total=23.5, utilization=0.92))
    assert found.cause == "length"
    assert [remedy.setting for remedy in found.remedies] == [
        "--max-model-len 91520",
        "--kv-cache-dtype fp8",
        "--tensor-parallel-size, --quantization",
    ]
    assert found.remedies[0].basis == "vLLM's figure"
    larger = explained(LENGTH, started(total=47.0, free_at_start=46.0, utilization=0.8))
    # 0.8 * 47 + 2.59 GiB are 0.8551 of it.
    assert "--gpu-memory-utilization 0.86" in [each.setting for each in larger.remedies]
    guessed = explained(LENGTH_GAP).remedies[0]
    assert guessed.setting == "--max-model-len 95328"
    assert guessed.basis == "arithmetic"
    assert "--max-model-len 3664" in [each.setting for each in explained(TOKENS).remedies]


@pytest.mark.parametrize(
    ("line", "cause", "said"),
    [
        (EXTERNAL, "no-kv-cache", "--gpu-memory-utilization 0.95"),
        (PROFILING, "memory-moved", "one server at a time"),
        (SAMPLER, "too-many-requests", "--max-num-seqs 128"),
        (MAMBA, "too-many-requests", "--max-num-seqs 112"),
        (LOAD, "capacity", "--tensor-parallel-size"),
        ("CUDA error: out of memory", "outside-pytorch", "--gpu-memory-utilization"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
         "host-memory", "swap space"),
        ("Tried to allocate more than 1EB memory", "request-size", "shape"),
    ],
)  # fmt: skip
def test_every_refusal_has_a_remedy(line: str, cause: str, said: str) -> None:
    found = explained(line)
    assert found.cause == cause
    assert found.remedy is not None
    assert said in found.remedy.setting + found.remedy.text


def test_the_share_that_leaves_more_to_libraries() -> None:
    found = explained("CUDA error: out of memory", started(total=80.0, utilization=0.92))
    assert found.remedies[0].setting == "--gpu-memory-utilization 0.89"
