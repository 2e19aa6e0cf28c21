"""PyTorch's messages as public logs hold them, one for every form and oddity."""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

HINT = (
    " If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation "
    "for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)


def new(
    asked: str,
    total: str,
    free: str,
    rest: str = "",
    *,
    backend: str = "CUDA",
    gpu: int = 0,
    word: str = "capacity",
) -> str:
    """Return a message of PyTorch 2.1 and later."""
    return (
        f"{backend} out of memory. Tried to allocate {asked}. GPU {gpu} has a total {word} of "
        f"{total} of which {free} is free. {rest}"
    )


def held(allocated: str, unallocated: str, *, pools: str = "") -> str:
    """Return what PyTorch says of itself."""
    private = f"with {pools} allocated in private pools (e.g., CUDA Graphs), " if pools else ""
    comma = "," if pools else ", "
    middle = f"{comma} {private}" if pools else comma
    return (
        f"Of the allocated memory {allocated} is allocated by PyTorch{middle}and {unallocated} is "
        f"reserved by PyTorch but unallocated.{HINT}"
    )


# pytorch/pytorch#16417: PyTorch 1.0; github.com/chnsh/DCRNN_PyTorch/issues/6: 1.4 to 1.12.
CACHED = (
    "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total "
    "capacity; 8.57 MiB already allocated; 9.28 GiB free; 4.68 MiB cached)"
)
RESERVED = (
    "RuntimeError:CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 5.80 GiB total capacity; "
    "4.36 GiB already allocated; 6.69 MiB free; 4.63 GiB reserved in total by PyTorch)"
)
# A memory fraction in PyTorch 1.8 to 2.0.
ALLOWED_OLD = (
    "RuntimeError: CUDA out of memory. Tried to allocate 5.59 GiB (GPU 0; 11.17 GiB total "
    "capacity; 0 bytes already allocated; 10.91 GiB free; 5.59 GiB allowed; 0 bytes reserved in "
    "total by PyTorch)"
)
# github.com/TorRient/localGPT-falcon/issues/7: 2.0.
HINTED = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.63 GiB (GPU 0; 44.56 GiB "
    "total capacity; 27.91 GiB already allocated; 565.31 MiB free; 27.93 GiB reserved in total by "
    "PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid "
    "fragmentation. See documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF"
)
# github.com/Synthintel0/MyGirlGPT/issues/11: 2.1, with its "capacty".
CAPACTY = "torch.cuda.OutOfMemoryError: " + new(
    "32.00 MiB",
    "4.00 GiB",
    "41.56 MiB",
    "Including non-PyTorch memory, this process has 3.44 GiB memory in use. "
    + held("2.58 GiB", "1.90 MiB"),
    word="capacty",
)
# pytorch/pytorch#16417, 2024.
MODERN = "torch.cuda.OutOfMemoryError: " + new(
    "22.00 MiB",
    "23.65 GiB",
    "11.06 MiB",
    "Including non-PyTorch memory, this process has 23.60 GiB memory in use. "
    + held("22.90 GiB", "194.87 MiB"),
)
# A container: its own number outside is another. github.com/studio-dots-ai/dots.ocr/issues/196.
CONTAINER = "torch.OutOfMemoryError: " + new(
    "74.16 GiB",
    "44.40 GiB",
    "29.89 GiB",
    "Process 2684311 has 14.51 GiB memory in use. " + held("13.44 GiB", "738.96 MiB"),
)
TWO_PROCESSES = "torch.OutOfMemoryError: " + new(
    "270.00 MiB",
    "21.67 GiB",
    "255.75 MiB",
    "Process 2109 has 344.00 MiB memory in use. Process 1448259 has 21.07 GiB memory in use. "
    + held("20.08 GiB", "56.49 MiB", pools="328.00 MiB"),
)
ALLOWED = "OutOfMemoryError: " + new(
    "996.00 MiB",
    "44.43 GiB",
    "9.06 GiB",
    "Process 2102129 has 17.54 GiB memory in use. Including non-PyTorch memory, this process has "
    "17.81 GiB memory in use. 17.69 GiB allowed; " + held("17.44 GiB", "59.88 MiB"),
)
# Windows: NVML cannot tell, and prints 2**64 - 1.
UNKNOWN_USE = "torch.OutOfMemoryError: " + new(
    "3.98 GiB",
    "31.84 GiB",
    "16.30 GiB",
    "Including non-PyTorch memory, this process has 17179869184.00 GiB memory in use. 17.51 GiB "
    "allowed; " + held("6.74 GiB", "7.02 GiB"),
)
POOLS = "torch.OutOfMemoryError: " + new(
    "2.00 MiB",
    "47.53 GiB",
    "896.00 KiB",
    "Process 1686436 has 47.51 GiB memory in use. "
    + held("47.00 GiB", "149.10 MiB", pools="46.22 GiB"),
)
HIP = "torch.OutOfMemoryError: " + new(
    "978.00 MiB", "15.98 GiB", "630.00 MiB", held("0 bytes", "0 bytes"), backend="HIP"
)
XPU = "torch.OutOfMemoryError: " + new("192.00 MiB", "31.89 GiB", "13.22 GiB", backend="XPU", gpu=3)
# What vLLM's pull request 37428 saw, on a device that is otherwise its own.
SCENE = "torch.OutOfMemoryError: " + new(
    "384.00 MiB",
    "79.10 GiB",
    "330.00 MiB",
    "Including non-PyTorch memory, this process has 78.77 GiB memory in use. "
    + held("77.80 GiB", "402.00 MiB"),
)
EVERY = {
    "cached": CACHED,
    "reserved": RESERVED,
    "allowed-old": ALLOWED_OLD,
    "hinted": HINTED,
    "capacty": CAPACTY,
    "modern": MODERN,
    "container": CONTAINER,
    "two-processes": TWO_PROCESSES,
    "allowed": ALLOWED,
    "unknown-use": UNKNOWN_USE,
    "pools": POOLS,
    "hip": HIP,
    "xpu": XPU,
    "scene": SCENE,
}
