"""Traps in allocator settings: each is found where it is, and nothing is found where none is.

Which texts PyTorch refuses, and what it takes from the others, is held against PyTorch itself in
test_conf_beside_torch.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from kvatlas.device import CANDIDATES
from kvatlas.device.conf import Lint, lint_environment, lint_text

CUDA, ANY = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
HIP = "PYTORCH_HIP_ALLOC_CONF"


def rules(found: Lint) -> list[str]:
    return [each.rule for each in found.findings]


@pytest.mark.parametrize(
    ("text", "rule", "column"),
    [
        ("expandable_segments:true", "case-of-true", 21),
        ("expandable_segments:1", "case-of-true", 21),
        ("max_split_size_mb:19", "smaller-than-segment", 1),
        ("large_segment_size_mb:64,max_split_size_mb:32", "smaller-than-segment", 26),
        ("max_split_size_mb:32,large_segment_size_mb:64", "smaller-than-segment", 1),
        ("large_segment_size_mb:32,max_non_split_rounding_mb:20", "smaller-than-segment", 26),
        ("large_segment_size_mb:10", "large-segment-too-small", 23),
        ("max_split_size:128", "unknown-key", 1),
        ("Expandable_Segments:True", "unknown-key", 1),
        ("expandable_segments=True", "unknown-key", 1),
        ('"expandable_segments:True"', "unknown-key", 1),
        ("max_split_size_mb:64,,expandable_segments:True", "unknown-key", 22),
        (",expandable_segments:True", "unknown-key", 1),
        ("max_split_size_mb:many", "not-a-number", 19),
        ("max_split_size_mb:99999999999999999999", "not-a-number", 19),
        ("max_split_size_mb:" + "9" * 5000, "not-a-number", 19),
        ("max_split_size_mb", "unfinished", 1),
        ("max_split_size_mb:[64]", "no-value", 19),
        ("garbage_collection_threshold:80%", "not-a-share", 30),
        ("garbage_collection_threshold:1", "not-a-share", 30),
        ("roundup_power2_divisions:3", "division", 26),
        ("roundup_power2_divisions:[256:3]", "division", 31),
        ("roundup_power2_divisions:[1000:2]", "interval", 27),
        ("roundup_power2_divisions:[256:4", "unfinished", 31),
        ("backend:cuda", "backend", 9),
    ],
)
def test_what_pytorch_refuses(text: str, rule: str, column: int) -> None:
    found = lint_text(text)
    assert found.refused
    assert not found.clean
    first = found.findings[0]
    assert (first.level, first.rule, first.column) == ("refused", rule, column)
    assert all(each.what and each.consequence and each.remedy for each in found.findings)
    assert "note" not in {each.level for each in found.findings}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("max_split_size_mb:64 128", "space-in-number"),
        ("max_split_size_mb:64MB", "rest-ignored"),
        ("max_split_size_mb:64.5", "rest-ignored"),
        ("max_split_size_mb:-1", "negative"),
        ("max_split_size_mb:64,max_split_size_mb:128", "named-twice"),
        ("max_non_split_rounding_mb:64", "rounding-without-split"),
        ("expandable_segments:True,max_split_size_mb:64", "split-with-expandable"),
        (
            "garbage_collection_threshold:0.8,expandable_segments:True,"
            "per_process_memory_fraction:0.9",
            "collection-with-expandable",
        ),
        ("garbage_collection_threshold:0.8", "collection-without-fraction"),
        (
            "garbage_collection_threshold:0.8,per_process_memory_fraction:1.0",
            "fraction-of-one",
        ),
        ("roundup_power2_divisions:1", "divisions-of-one"),
        ("roundup_power2_divisions:[256:1,512:2,>:4]", "divisions-of-one"),
        ("roundup_power2_divisions:[256:4,1024:8,>:8]", "divisions-holes"),
        ("roundup_power2_divisions:[>:8]", "divisions-holes"),
        ("roundup_power2_divisions:[512:2,256:4,>:8]", "divisions-order"),
        ("backend:cudaMallocAsync,max_split_size_mb:64", "async-ignores"),
        ("max_split_size_mb:64;128", "rest-ignored"),
    ],
)
def test_what_pytorch_takes_but_does_not_do(text: str, rule: str) -> None:
    found = lint_text(text)
    assert not found.refused
    assert not found.clean
    assert rule in [each.rule for each in found.findings if each.level == "trap"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "expandable_segments:True",
        "expandable_segments:False",
        "max_split_size_mb:128,",
        " max_split_size_mb : 128 ",
        "roundup_power2_divisions:[256:4,512:8,>:16]",
        "roundup_power2_divisions:8",
        "large_segment_size_mb:64,max_split_size_mb:64,max_non_split_rounding_mb:64",
        "garbage_collection_threshold:0.8,per_process_memory_fraction:0.95",
        "backend:native,pinned_num_register_threads:8,throw_on_cudamalloc_oom:True",
        *(text for text in CANDIDATES if "garbage" not in text),
    ],
)
def test_what_does_as_it_says(text: str) -> None:
    found = lint_text(text)
    assert found.clean, found.findings


def test_a_lost_setting_is_named_and_not_taken() -> None:
    found = lint_text("max_split_size_mb:64,,expandable_segments:True")
    assert dict(found.values) == {"max_split_size_mb": 64}
    assert "over expandable_segments with it" in found.findings[0].consequence
    assert rules(found) == ["unknown-key"]


def test_holes_are_named_by_their_sizes() -> None:
    (found,) = [
        each
        for each in lint_text("roundup_power2_divisions:[256:4,1024:8]").findings
        if each.rule == "divisions-holes"
    ]
    assert found.what.endswith("says nothing about 512 MiB to 1 GiB, sizes from 2 GiB on")


def test_no_text_is_too_odd() -> None:
    rng = np.random.default_rng(4)
    alphabet = [
        *",,::[[]]>->=;.0123456789 \t\x1b\u00a0\u0660Tru",
        "max_split_size_mb", "roundup_power2_divisions", "expandable_segments", "True", "9" * 5000,
        "garbage_collection_threshold", "large_segment_size_mb", "backend", "256",
    ]  # fmt: skip
    for _ in range(500):
        text = "".join(rng.choice(alphabet, int(rng.integers(0, 20))))
        for each in lint_text(text).findings:
            assert each.column is None or 1 <= each.column <= len(text)


def test_what_a_later_call_would_reset_is_a_note() -> None:
    found = lint_text("max_split_size_mb:64,expandable_segments:False")
    assert rules(found) == ["reset-by-each-call"]
    assert found.clean
    assert rules(lint_text("expandable_segments:False")) == []


@pytest.mark.parametrize(
    ("variables", "read", "found"),
    [
        ({}, None, []),
        ({CUDA: "max_split_size_mb:64"}, CUDA, ["older-name"]),
        ({ANY: "max_split_size_mb:64"}, ANY, []),
        ({CUDA: "backend:native", ANY: "backend:native"}, CUDA, ["older-name"]),
        ({CUDA: "backend:native", ANY: ""}, CUDA, ["several-variables", "older-name"]),
        ({CUDA: "", ANY: "backend:native"}, CUDA, ["several-variables"]),
        ({ANY: "expandable_segments:True"}, ANY, ["connector-check-blind"]),
        ({CUDA: "expandable_segments:True"}, CUDA, ["older-name"]),
        ({HIP: "", ANY: "backend:native"}, HIP, ["several-variables", "hip-variable"]),
        ({HIP: "backend:native"}, HIP, ["hip-variable"]),
        ({CUDA: "", HIP: "", ANY: "x:1"}, CUDA, ["several-variables"]),
        ({ANY: "backend:native", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, ANY, ["no-caching"]),
    ],
)
def test_variables(variables: dict[str, str], read: str | None, found: list[str]) -> None:
    result = lint_environment(variables)
    assert result.variable == read
    assert [each.rule for each in result.findings] == found
    if read is not None:
        assert result.lint is not None
        assert result.lint.text == variables[read]
    traps = {"several-variables", "connector-check-blind", "no-caching"}
    assert result.clean == (not traps & set(found))
