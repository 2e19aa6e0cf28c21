"""The reading of allocator settings beside PyTorch's own: odd texts, random ones, variables."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvatlas.device import AllocatorSettings
from kvatlas.device.conf import lint_environment, lint_text
from kvatlas.device.conf.reading import MOST_MIB, read_text
from kvatlas.device.conf.rules import together
from kvatlas.errors import InputError

torch = pytest.importorskip("torch", reason="the extra torch is not installed here")
pytestmark = pytest.mark.vllm  # torch comes with vLLM's environment: make test-vllm

_CLASS = "_ZN3c1016CachingAllocator26AcceleratorAllocatorConfig"
CUDA, HIP = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"
_DEFAULTS = "large_segment_size_mb:20,expandable_segments:False"
_KEYS = (
    "max_split_size_mb", "max_non_split_rounding_mb", "garbage_collection_threshold",
    "roundup_power2_divisions", "expandable_segments", "large_segment_size_mb", "no_such_key",
)  # fmt: skip
_PIECES = (
    *_KEYS, ",", ",", ":", ":", "[", "]", "True", "False", "true", "64", "20", "32", "16", "0.5",
    "0", "-1", ">", "256", "512", "1024", "4", "1", "3", " ", "64MB", "1e3", "[256:4,512:8]",
    "[256:1,>:8]", "[>:4,256:2]", "[131072:2]",
)  # fmt: skip


@pytest.fixture(scope="module")
def state() -> Callable[[], dict[str, Any]]:
    """Return what PyTorch's configuration holds now, read from its own object.

    Its fields lie in the order of c10/core/AllocatorConfig.h.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    try:
        instance = getattr(library, f"{_CLASS}8instanceEv")
        divisions = getattr(library, f"{_CLASS}24roundup_power2_divisionsEm")
    except AttributeError:
        pytest.skip("this PyTorch has no AcceleratorAllocatorConfig")
    instance.restype, divisions.restype = ctypes.c_void_p, ctypes.c_size_t
    divisions.argtypes = [ctypes.c_size_t]

    def read() -> dict[str, Any]:
        place = instance()
        large, split, rounding = (ctypes.c_uint64 * 3).from_address(place)
        return {
            "large_segment_size_mb": large >> 20,
            "max_split_size_mb": split >> 20,
            "max_non_split_rounding_mb": rounding >> 20,
            "garbage_collection_threshold": ctypes.c_double.from_address(place + 48).value,
            "expandable_segments": ctypes.c_bool.from_address(place + 56).value,
            "roundup_power2_divisions": tuple(divisions(1 << (20 + at)) for at in range(16)),
        }

    return read


def taken(text: str, state: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Return what PyTorch takes from a text after a fresh start, None where it refuses it."""
    set_all = torch._C._accelerator_setAllocatorSettings
    set_all(_DEFAULTS)
    try:
        set_all(text)
    except (ValueError, RuntimeError, IndexError):
        return None
    return state()


def expected(text: str) -> dict[str, Any] | None:
    """Return the same by our reading; what only a CUDA build refuses is passed over."""
    read = read_text(text)
    refusals = [] if read.stopped else together(read)
    if read.stopped or any(each.level == "refused" for each in refusals):
        return None
    values = dict(read.values)
    large = values.get("large_segment_size_mb", 20)
    split = values.get("max_split_size_mb", MOST_MIB)
    return {
        "large_segment_size_mb": large,
        "max_split_size_mb": split,
        "max_non_split_rounding_mb": values.get("max_non_split_rounding_mb", large),
        "garbage_collection_threshold": values.get("garbage_collection_threshold", 0.0),
        "expandable_segments": values.get("expandable_segments", False),
        "roundup_power2_divisions": values.get("roundup_power2_divisions", (0,) * 16),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "expandable_segments:True",
        "expandable_segments:true",
        "max_split_size_mb:64,,expandable_segments:True",
        ",expandable_segments:true",
        "max_split_size_mb:64,",
        "max_split_size_mb:64 128",
        "max_split_size_mb:64MB",
        "max_split_size_mb:100.7",
        "max_split_size_mb:0x40",
        "max_split_size_mb:-1",
        "max_split_size_mb:19",
        "max_split_size_mb:99999999999999999999",
        "max_split_size_mb:00000000000000000000000064",
        "max_split_size_mb:\t64\v",
        "max_split_size_mb:6\u00a04",
        "max_split_size_mb:[64]",
        "max_split_size_mb",
        "max_split_size_mb:",
        "large_segment_size_mb:40,max_split_size_mb:32",
        "max_split_size_mb:32,large_segment_size_mb:40",
        "large_segment_size_mb:12",
        "large_segment_size_mb:21",
        "large_segment_size_mb:10",
        "large_segment_size_mb:40,max_non_split_rounding_mb:32",
        "garbage_collection_threshold:0",
        "garbage_collection_threshold:1",
        "garbage_collection_threshold:.5x",
        "garbage_collection_threshold:80%",
        "roundup_power2_divisions:3",
        "roundup_power2_divisions:0",
        "roundup_power2_divisions:4",
        "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
        "roundup_power2_divisions:[256:1,1024:4]",
        "roundup_power2_divisions:[>:4]",
        "roundup_power2_divisions:[>:4,256:8]",
        "roundup_power2_divisions:[512:2,256:4]",
        "roundup_power2_divisions:[256:1,131072:4]",
        "roundup_power2_divisions:[256:0,512:2,]",
        "roundup_power2_divisions:[1000:2]",
        "roundup_power2_divisions:[256:3]",
        "roundup_power2_divisions:[]",
        "roundup_power2_divisions:[256:4",
        "roundup_power2_divisions:4,roundup_power2_divisions:[256:1,>:2]",
        "expandable_segments=True,max_split_size_mb:64",
        "expandable_segments:True;max_split_size_mb:64",
        "expandable_segments:True max_split_size_mb:64",
        '"expandable_segments:True"',
        "Expandable_segments:True",
        "no_such_key:[1:2,3],max_split_size_mb:64",
        "foo",
    ],
)
def test_odd_texts_are_read_as_pytorch_reads_them(
    text: str, state: Callable[[], dict[str, Any]]
) -> None:
    assert expected(text) == taken(text, state)


def test_random_texts_are_read_as_pytorch_reads_them(state: Callable[[], dict[str, Any]]) -> None:
    rng = np.random.default_rng(11)
    accepted = 0
    for _ in range(5_000):
        text = "".join(rng.choice(_PIECES, int(rng.integers(1, 14))))
        found = taken(text, state)
        assert expected(text) == found, text
        accepted += found is not None
    assert accepted > 300


def test_the_settings_of_the_twin_are_what_pytorch_takes(
    state: Callable[[], dict[str, Any]],
) -> None:
    """GIVEN random texts that both take THEN the twin's settings are PyTorch's."""
    rng = np.random.default_rng(12)
    values = {
        "max_split_size_mb": ("20", "64", "200"),
        "max_non_split_rounding_mb": ("20", "64"),
        "garbage_collection_threshold": ("0.5", "0.8"),
        "roundup_power2_divisions": ("4", "[256:1,512:2,>:8]", "[>:2]", "[1:4,64:0]"),
        "expandable_segments": ("True", "False"),
        "large_segment_size_mb": ("12", "32", "64"),
    }
    compared = 0
    for _ in range(500):
        keys = [key for key in values if rng.random() < 0.4]
        text = ",".join(f"{key}:{rng.choice(values[key])}" for key in rng.permutation(keys))
        found = taken(text, state)
        if found is None:
            with pytest.raises(InputError):
                AllocatorSettings.parse(text)
            continue
        own, compared = AllocatorSettings.parse(text), compared + 1
        split = own.max_split_bytes
        assert (split >> 20 if split is not None else MOST_MIB) == found["max_split_size_mb"]
        assert own.max_non_split_rounding_bytes >> 20 == found["max_non_split_rounding_mb"]
        assert own.large_segment_bytes >> 20 == found["large_segment_size_mb"]
        assert own.garbage_collection_threshold == found["garbage_collection_threshold"]
        assert own.expandable_segments == found["expandable_segments"]
        assert own.roundup_power2_divisions == found["roundup_power2_divisions"]
    assert compared > 200


def test_what_a_later_call_resets(state: Callable[[], dict[str, Any]]) -> None:
    everything = (
        "max_split_size_mb:64,large_segment_size_mb:32,expandable_segments:True,"
        "garbage_collection_threshold:0.5,max_non_split_rounding_mb:40,roundup_power2_divisions:4"
    )
    note = next(
        each for each in lint_text(everything).findings if each.rule == "reset-by-each-call"
    )
    before = taken(everything, state)
    torch._C._accelerator_setAllocatorSettings("")
    after = state()
    assert before is not None
    lost = {name for name in before if before[name] != after[name]}
    assert lost == set(note.what.split(", "))
    torch._C._accelerator_setAllocatorSettings(_DEFAULTS)


@pytest.mark.parametrize(
    "variables",
    [
        {CUDA: "max_split_size_mb:64", "PYTORCH_ALLOC_CONF": "max_split_size_mb:128"},
        {CUDA: "", "PYTORCH_ALLOC_CONF": "max_split_size_mb:128"},
        {HIP: "max_split_size_mb:64", "PYTORCH_ALLOC_CONF": "max_split_size_mb:128"},
    ],
)  # fmt: skip
def test_which_variable_counts(variables: dict[str, str]) -> None:
    code = "import torch, json; print(json.dumps(torch._C._accelerator_getAllocatorSettings()))"
    clean = {name: text for name, text in os.environ.items() if "ALLOC_CONF" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found = lint_environment(variables)
    assert found.lint is not None
    assert json.loads(done.stdout) == found.lint.text
