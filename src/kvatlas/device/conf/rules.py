"""What settings do together, or do not do at all.

Owns: findings about the values as a whole. Leaves to others: single keys (`reading`), the variables
they stand in (`environment`).

Source: design of PyTorch's allocator, c10/core/AllocatorConfig.h and
c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.13; limits and resets were tried on its CPU build.
"""

from __future__ import annotations

from collections.abc import Callable

from kvatlas.device.conf.findings import Finding, Level
from kvatlas.device.conf.reading import Reading

__all__ = ["together"]

_RESET = (
    "max_split_size_mb", "max_non_split_rounding_mb", "roundup_power2_divisions",
    "garbage_collection_threshold",
)  # fmt: skip
_NATIVE = (*_RESET, "expandable_segments", "large_segment_size_mb")
_LARGE_MIB = 20


def together(read: Reading) -> list[Finding]:
    """Return what `read` holds that does not go together, or does nothing; each by one rule."""
    findings: list[Finding] = []
    for rule in (
        _max_split, _rounding, _expandable, _collection, _backend, _page, _resets,
        _vllm,
    ):  # fmt: skip
        rule(read, _finder(read, findings))
    return findings


Say = Callable[[Level, str, str, str, str, str], None]


def _finder(read: Reading, findings: list[Finding]) -> Say:
    def say(level: Level, rule: str, key: str, what: str, consequence: str, remedy: str) -> None:
        findings.append(
            Finding(
                level=level, rule=rule, column=read.columns.get(key), what=what,
                consequence=consequence, remedy=remedy,
            )
        )  # fmt: skip

    return say


def _number(read: Reading, key: str, default: int) -> int:
    value = read.values.get(key, default)
    return value if isinstance(value, int) else default


def _max_split(read: Reading, say: Say) -> None:
    large = _number(read, "large_segment_size_mb", _LARGE_MIB)
    for key in ("max_split_size_mb", "max_non_split_rounding_mb"):
        value = _number(read, key, large)
        if value < large:
            say(
                "refused", "smaller-than-segment", key, f"{key} is {value}",
                "PyTorch refuses the text: it must be at least large_segment_size_mb, which is "
                f"{large}{'' if 'large_segment_size_mb' in read.values else ' by default'}",
                f"write {key}:{large} or more",
            )  # fmt: skip
    if "max_non_split_rounding_mb" in read.values and "max_split_size_mb" not in read.values:
        say(
            "trap", "rounding-without-split", "max_non_split_rounding_mb",
            "max_non_split_rounding_mb stands without max_split_size_mb",
            "nothing: it is about blocks that may not be split, and without a limit all may be",
            "add max_split_size_mb, or leave it out",
        )  # fmt: skip


def _rounding(read: Reading, say: Say) -> None:
    table = read.values.get("roundup_power2_divisions")
    if table == (1,) * 16:
        say(
            "trap", "divisions-of-one", "roundup_power2_divisions",
            "roundup_power2_divisions is 1",
            "every request is rounded up to a power of two: up to twice the memory",
            "write 4 or 8, or leave it out",
        )  # fmt: skip


def _expandable(read: Reading, say: Say) -> None:
    if read.values.get("expandable_segments") is not True:
        return
    if "max_split_size_mb" in read.values:
        say(
            "trap", "split-with-expandable", "max_split_size_mb",
            "max_split_size_mb stands beside expandable_segments:True",
            "blocks of expandable segments are split whatever their size; the limit only makes "
            "smaller requests pass over free ranges from it on, and map more memory",
            "choose one of the two; kvatlas device what-if compares them on your load",
        )  # fmt: skip
    if "garbage_collection_threshold" in read.values:
        say(
            "trap", "collection-with-expandable", "garbage_collection_threshold",
            "garbage_collection_threshold stands beside expandable_segments:True",
            "it collects whole cached segments only, and expandable ones are never collected",
            "choose one of the two",
        )  # fmt: skip


def _collection(read: Reading, say: Say) -> None:
    fraction = read.values.get("per_process_memory_fraction")
    if "garbage_collection_threshold" in read.values and fraction is None:
        say(
            "trap", "collection-without-fraction", "garbage_collection_threshold",
            "garbage_collection_threshold stands without a memory fraction",
            "it acts only under one, and vLLM sets none: nothing is ever collected",
            "add per_process_memory_fraction:0.99, or call "
            "torch.cuda.set_per_process_memory_fraction()",
        )  # fmt: skip
    if fraction == 1.0:
        say(
            "trap", "fraction-of-one", "per_process_memory_fraction",
            "per_process_memory_fraction is 1",
            "a whole device is no limit, and garbage collection does not act",
            "write 0.99",
        )  # fmt: skip


def _backend(read: Reading, say: Say) -> None:
    ignored = [key for key in _NATIVE if key in read.values]
    if read.values.get("backend") == "cudaMallocAsync":
        if ignored:
            say(
                "trap", "async-ignores", ignored[0],
                f"{', '.join(ignored)} beside backend:cudaMallocAsync",
                "the driver's allocator takes no notice of them",
                "leave them out, or use backend:native",
            )  # fmt: skip
        say(
            "note", "async-no-snapshot", "backend", "backend is cudaMallocAsync",
            "PyTorch records no memory snapshot of the driver's allocator",
            "use backend:native to look into memory",
        )  # fmt: skip


def _page(read: Reading, say: Say) -> None:
    large = _number(read, "large_segment_size_mb", _LARGE_MIB)
    if large % 2:
        say(
            "note", "odd-segment", "large_segment_size_mb", f"large_segment_size_mb is {large}",
            "the driver hands out multiples of 2 MiB: what is over is lost, and as the page of "
            "expandable segments it is not verified on recordings",
            f"write {large + 1}",
        )  # fmt: skip


def _resets(read: Reading, say: Say) -> None:
    lost = [key for key in _RESET if key in read.values]
    if lost:
        say(
            "note", "reset-by-each-call", lost[0], f"{', '.join(lost)}",
            "each later call of torch.cuda.memory._set_allocator_settings() puts what it does not "
            "name back to its default; expandable_segments and large_segment_size_mb stay",
            "repeat the whole text in such a call",
        )  # fmt: skip


def _vllm(read: Reading, say: Say) -> None:
    if read.values.get("expandable_segments") is True:
        say(
            "note", "expandable-with-connectors", "expandable_segments",
            "expandable_segments is True",
            "vLLM 0.32 refuses to start a KV connector with it, unless its cumem allocator is on, "
            "as in sleep mode",
            "leave it out where KV blocks are transferred",
        )  # fmt: skip
