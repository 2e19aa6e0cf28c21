"""The allocator's settings: as PyTorch's variable writes them, and as a snapshot records them.

Owns: which settings there are, their limits and their text form. Leaves to others: what they do
(the kernels), and which combination is wise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvatlas.errors import InputError

__all__ = ["AllocatorSettings"]

MIB = 1 << 20
_LARGE_SEGMENT_BYTES = 20 * MIB
_SMALLEST_LARGE_MIB = 10
"""A segment of the large pool must be larger than the requests that share one."""
_DIVISIONS = 16
"""Entries of the roundup table: sizes from 1 MiB, 2 MiB, ... and from 32 GiB on."""
_TOKEN = re.compile(r"[\[\],:]|[^\[\],:\s]+")
_FIELD = "PYTORCH_CUDA_ALLOC_CONF"
# Keys that change nothing about which address a request gets on its stream.
_IGNORED = frozenset(
    {
        "backend",
        "graph_capture_record_stream_reuse",
        "pinned_background_threads",
        "pinned_free_catch_all",
        "pinned_max_cached_size_mb",
        "pinned_max_round_threshold_mb",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "pinned_use_hip_host_register",
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
        "throw_on_cudamalloc_oom",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """What decides where PyTorch's CUDA caching allocator puts a request.

    Attributes:
        max_split_bytes: blocks from this size on are never split; None: all may be.
        roundup_power2_divisions: per doubling of the size from 1 MiB on (the last entry: from
            32 GiB on) into how many steps it is cut for rounding up; 0 or 1: multiples of 512.
        garbage_collection_threshold: share of the allowed memory above which old cached blocks are
            released first, from 0 to 1; 0: never. Acts only under a memory fraction.
        expandable_segments: one growing segment per stream and pool.
        large_segment_bytes: a segment that requests of 1 to 10 MiB share, and the page of
            expandable ones.
        max_non_split_rounding_bytes: how much larger than the request an unsplittable block may be;
            0 stands for `large_segment_bytes`, as PyTorch has it by default.

    Source: c10/core/AllocatorConfig.h and c10/cuda/CUDAAllocatorConfig.h of PyTorch 2.13.
    Raises: InputError for a value that PyTorch refuses.
    """

    max_split_bytes: int | None = None
    roundup_power2_divisions: tuple[int, ...] = (0,) * _DIVISIONS
    garbage_collection_threshold: float = 0.0
    expandable_segments: bool = False
    large_segment_bytes: int = _LARGE_SEGMENT_BYTES
    max_non_split_rounding_bytes: int = 0

    def __post_init__(self) -> None:
        large = self.large_segment_bytes
        if large <= _SMALLEST_LARGE_MIB * MIB or large % (2 * MIB) or large > 1 << 50:
            raise InputError(
                "not a multiple of 2 MiB above 10 MiB", field="large_segment_size_mb", value=large
            )
        split = self.max_split_bytes
        if split is not None and not large <= split <= 1 << 50:
            raise InputError(
                "smaller than a segment of the large pool, or larger than any memory",
                field="max_split_size_mb",
                value=split,
                remedy=f"use at least {large // MIB} MiB",
            )
        rounding = self.max_non_split_rounding_bytes or large
        if not large <= rounding <= 1 << 50:
            raise InputError(
                "smaller than a segment of the large pool, or larger than any memory",
                field="max_non_split_rounding_mb",
                value=rounding,
                remedy=f"use at least {large // MIB} MiB",
            )
        object.__setattr__(self, "max_non_split_rounding_bytes", rounding)
        threshold = self.garbage_collection_threshold
        if not 0.0 <= threshold < 1.0:
            raise InputError(
                "not from 0 to 1", field="garbage_collection_threshold", value=threshold
            )
        divisions = self.roundup_power2_divisions
        if len(divisions) != _DIVISIONS or any(
            division < 0 or division & (division - 1) or division > 1 << 20
            for division in divisions
        ):
            raise InputError(
                "not sixteen powers of two", field="roundup_power2_divisions", value=divisions
            )

    @classmethod
    def parse(cls, text: str, *, strict: bool = True) -> AllocatorSettings:
        """Return the settings of a text such as `max_split_size_mb:128,expandable_segments:True`.

        Every text begins from the defaults, as every call of PyTorch does. Keys about pinned memory
        and threads are skipped; with `strict` an unknown key is an error.

        Raises: InputError, also for what PyTorch refuses: `true` for `True`, a value too small.
        """
        found: dict[str, Any] = {}
        tokens = _TOKEN.findall(text)
        at = 0
        while at < len(tokens):
            key = tokens[at]
            if tokens[at + 1 : at + 2] != [":"] or at + 2 >= len(tokens):
                raise InputError("a key without a value", field=_FIELD, value=key)
            at += 2
            if tokens[at] == "[":
                if "]" not in tokens[at:]:
                    raise InputError("a list without an end", field=_FIELD, value=key)
                end = tokens.index("]", at)
                value = tokens[at + 1 : end]
                at = end + 1
            else:
                value = tokens[at]
                at += 1
            if tokens[at : at + 1] not in ([], [","]):
                raise InputError("no comma between two settings", field=_FIELD, value=tokens[at])
            at += 1
            _set(found, key, value, strict)
        return cls(**found)

    @classmethod
    def of_snapshot(cls, recorded: Mapping[str, Any]) -> AllocatorSettings:
        """Return the settings of a snapshot's `allocator_settings`; O(1). Raises: InputError."""
        text = recorded.get(_FIELD) or recorded.get("PYTORCH_ALLOC_CONF") or ""
        if not isinstance(text, str):
            raise InputError("not a text", field=_FIELD)
        base = cls.parse(text, strict=False)
        found: dict[str, Any] = {}
        split = recorded.get("max_split_size", -1)
        if type(split) is not int:
            raise InputError("not a number of bytes", field="max_split_size", value=str(split))
        found["max_split_bytes"] = split if 0 <= split < 1 << 62 else None
        threshold = recorded.get("garbage_collection_threshold", 0.0)
        if not isinstance(threshold, int | float) or not math.isfinite(threshold):
            raise InputError("not a number", field="garbage_collection_threshold")
        found["garbage_collection_threshold"] = float(threshold)
        expandable = recorded.get("expandable_segments", False)
        if type(expandable) is not bool:
            raise InputError("neither true nor false", field="expandable_segments")
        found["expandable_segments"] = expandable
        divisions = recorded.get("roundup_power2_divisions")
        if divisions is not None:
            found["roundup_power2_divisions"] = _recorded_divisions(divisions)
        return replace(base, **found)

    def text(self) -> str:
        """Return the text form; what is at its default is left out."""
        parts = []
        if self.max_split_bytes is not None:
            parts.append(f"max_split_size_mb:{self.max_split_bytes // MIB}")
        if any(self.roundup_power2_divisions):
            table = self.roundup_power2_divisions
            if len(set(table)) == 1:
                parts.append(f"roundup_power2_divisions:{table[0]}")
            else:
                keyed = (f"{1 << at}:{table[at]}" for at in range(_DIVISIONS))
                parts.append(f"roundup_power2_divisions:[{','.join(keyed)}]")
        if self.garbage_collection_threshold:
            parts.append(f"garbage_collection_threshold:{self.garbage_collection_threshold:g}")
        if self.expandable_segments:
            parts.append("expandable_segments:True")
        if self.large_segment_bytes != _LARGE_SEGMENT_BYTES:
            parts.append(f"large_segment_size_mb:{self.large_segment_bytes // MIB}")
        if self.max_non_split_rounding_bytes != self.large_segment_bytes:
            parts.append(f"max_non_split_rounding_mb:{self.max_non_split_rounding_bytes // MIB}")
        return ",".join(parts)


def _set(found: dict[str, Any], key: str, value: str | list[str], strict: bool) -> None:
    if key == "roundup_power2_divisions":
        found[key] = _divisions(value, found.get(key, (0,) * _DIVISIONS))
    elif isinstance(value, list):
        raise InputError("a list where one value belongs", field=key)
    elif key == "max_split_size_mb":
        found["max_split_bytes"] = _mebibytes(key, value)
    elif key == "large_segment_size_mb":
        found["large_segment_bytes"] = _mebibytes(key, value)
    elif key == "max_non_split_rounding_mb":
        found["max_non_split_rounding_bytes"] = _mebibytes(key, value)
    elif key == "garbage_collection_threshold":
        if not re.fullmatch(r"[0-9]{0,4}\.?[0-9]{1,9}", value) or not 0.0 < float(value) < 1.0:
            raise InputError("not a share between 0 and 1", field=key, value=value)
        found[key] = float(value)
    elif key == "expandable_segments":
        if value not in ("True", "False"):
            raise InputError("PyTorch takes True or False only", field=key, value=value)
        found[key] = value == "True"
    elif strict and key not in _IGNORED:
        raise InputError("no setting of the allocator that the twin knows", field=key, value=value)


def _mebibytes(key: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", value):
        raise InputError("not a whole number of MiB", field=key, value=value)
    return int(value) * MIB


def _divisions(value: str | list[str], before: tuple[int, ...]) -> tuple[int, ...]:
    """Return the table of `4`, or of `[256:1,512:2,>:8]`, which is laid over the one `before`.

    The first key's value also holds for all below it, that of `>` for all after the key before it;
    what lies between two keys stays as it was, which is 0 unless the setting is named twice.
    """
    key = "roundup_power2_divisions"
    if isinstance(value, str):
        return (_power_of_two(key, value),) * _DIVISIONS
    table = list(before)
    first, last = True, 0
    pairs = [token for token in value if token != ","]
    if len(pairs) % 3 or any(pairs[at] != ":" for at in range(1, len(pairs), 3)):
        raise InputError("not pairs of MiB and divisions", field=key, value="".join(value))
    for at in range(0, len(pairs), 3):
        division = 0 if pairs[at + 2] == "0" else _power_of_two(key, pairs[at + 2])
        if pairs[at] == ">":
            table[last + 1 :] = [division] * (_DIVISIONS - last - 1)
            continue
        last = min(_power_of_two(key, pairs[at]).bit_length() - 1, _DIVISIONS - 1)
        if first:
            table[:last] = [division] * last
            first = False
        table[last] = division
    return tuple(table)


def _power_of_two(key: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) <= 0 or int(text) & (int(text) - 1):
        raise InputError("not a power of two", field=key, value=text)
    return int(text)


def _recorded_divisions(recorded: Any) -> tuple[int, ...]:
    key = "roundup_power2_divisions"
    table = [0] * _DIVISIONS
    if not isinstance(recorded, Mapping):
        raise InputError("not a table", field=key)
    for name, division in recorded.items():
        index = {str(1 << at): at for at in range(_DIVISIONS)}.get(name)
        if index is None or type(division) is not int:
            raise InputError("not a table of sizes and divisions", field=key, value=str(name))
        table[index] = division
    return tuple(table)
