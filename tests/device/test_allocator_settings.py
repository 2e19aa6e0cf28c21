"""The settings' text form, as PyTorch reads it, and rounding by them."""

from __future__ import annotations

import numpy as np
import pytest
from naive_allocator import MIB, NaiveAllocator

from kvatlas.device import AllocatorSettings
from kvatlas.device.rounding import round_sizes, segment_bytes
from kvatlas.errors import InputError


def test_defaults() -> None:
    assert AllocatorSettings.parse("") == AllocatorSettings()
    assert AllocatorSettings().text() == ""


def test_every_key() -> None:
    found = AllocatorSettings.parse(
        "max_split_size_mb:128, garbage_collection_threshold:0.8,expandable_segments:True,"
        "roundup_power2_divisions:4,large_segment_size_mb:32,max_non_split_rounding_mb:40,"
        "backend:native,pinned_num_register_threads:8"
    )
    assert found == AllocatorSettings(
        max_split_bytes=128 * MIB,
        garbage_collection_threshold=0.8,
        expandable_segments=True,
        roundup_power2_divisions=(4,) * 16,
        large_segment_bytes=32 * MIB,
        max_non_split_rounding_bytes=40 * MIB,
    )


@pytest.mark.parametrize(
    ("text", "table"),
    [
        # The first key fills what is below it, `>` what is behind the last; between them stays 0.
        ("[64:8,256:4,1024:2,>:1]", [8] * 7 + [0, 4, 0, 2] + [1] * 5),
        ("[1:2]", [2] + [0] * 15),
        ("[>:8]", [0] + [8] * 15),
        ("[65536:8]", [8] * 16),
        ("[>:4,256:8]", [8] * 9 + [4] * 7),
        ("[256:1,131072:4]", [1] * 9 + [0] * 6 + [4]),
        ("[256:0,512:2,]", [0] * 9 + [2] + [0] * 6),
        ("4,roundup_power2_divisions:[256:1,1024:2]", [1] * 9 + [4, 2] + [4] * 5),
    ],
)
def test_lists_of_divisions(text: str, table: list[int]) -> None:
    found = AllocatorSettings.parse(f"roundup_power2_divisions:{text}")
    assert list(found.roundup_power2_divisions) == table


def test_unsplittable_blocks_may_exceed_a_request_by_a_large_segment() -> None:
    for text in ("large_segment_size_mb:64,max_split_size_mb:64", "large_segment_size_mb:12"):
        found = AllocatorSettings.parse(text)
        assert found.max_non_split_rounding_bytes == found.large_segment_bytes
        assert AllocatorSettings.parse(found.text()) == found


def test_text_and_back() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        large = int(rng.choice([20, 32])) * MIB
        settings = AllocatorSettings(
            max_split_bytes=None if rng.random() < 0.5 else large + 4 * MIB,
            roundup_power2_divisions=tuple(int(d) for d in rng.choice([0, 1, 2, 4, 8], 16)),
            garbage_collection_threshold=float(rng.choice([0.0, 0.25])),
            expandable_segments=bool(rng.random() < 0.5),
            large_segment_bytes=large,
            max_non_split_rounding_bytes=large + 2 * MIB,
        )
        assert AllocatorSettings.parse(settings.text()) == settings


@pytest.mark.parametrize(
    "text",
    [
        "expandable_segments:true",
        "expandable_segments",
        "expandable_segments:",
        "max_split_size_mb:19",
        "max_split_size_mb:-1",
        "max_split_size_mb:many",
        "max_split_size_mb:999999999999",
        "large_segment_size_mb:10",
        "large_segment_size_mb:32,max_split_size_mb:24,max_non_split_rounding_mb:32",
        "max_non_split_rounding_mb:19",
        "garbage_collection_threshold:1.5",
        "garbage_collection_threshold:0",
        "roundup_power2_divisions:3",
        "roundup_power2_divisions:[3:4]",
        "roundup_power2_divisions:[4:4",
        "roundup_power2_divisions:[4]",
        "roundup_power2_divisions:[]x",
        "max_split_size_mb:[1]",
        "no_such_key:1",
        "max_split_size_mb:128 expandable_segments:True",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        AllocatorSettings.parse(text)
    assert "\n" not in str(caught.value)


def test_unknown_keys_of_recordings_are_passed_over() -> None:
    assert AllocatorSettings.parse("no_such_key:1", strict=False) == AllocatorSettings()


def test_rounding_of_arrays_is_the_rule() -> None:
    rng = np.random.default_rng(6)
    sizes = np.concatenate(
        [
            np.array([0, 1, 511, 512, 513, MIB - 1, MIB, MIB + 1, 1200, 1280, 3 * MIB]),
            np.exp(rng.uniform(0, np.log(2.0**37), 300)).astype(np.int64),
        ]
    )
    for divisions in ((0,) * 16, (4,) * 16, tuple([8] * 4 + [0, 1, 2, 16] * 3)):
        settings = AllocatorSettings(roundup_power2_divisions=divisions)
        naive = NaiveAllocator(settings)
        expected = [naive.rounded(int(size)) for size in sizes]
        assert round_sizes(sizes, settings).tolist() == expected


def test_the_example_of_the_documentation() -> None:
    """1200 between 1024 and 2048 in four steps: 1280. Only requests above 512 * divisions."""
    settings = AllocatorSettings(roundup_power2_divisions=(4,) * 16)
    sizes = np.array([1200, 2 * MIB + 1, 1200 * 1024])
    assert round_sizes(sizes, settings).tolist() == [1536, 2560 * 1024, 1280 * 1024]


def test_the_segment_that_a_request_needs_is_the_rule() -> None:
    # GIVEN requests rounded up WHEN none finds a block THEN the driver is asked for what the naive
    # allocator asks for, and whole pages of an expandable segment hold it
    settings = AllocatorSettings(large_segment_bytes=12 * MIB)
    naive = NaiveAllocator(settings)
    sizes = [512, MIB, MIB + 512, 10 * MIB - 512, 10 * MIB, 33 * MIB + 512]
    assert [segment_bytes(each, settings) for each in sizes] == [
        naive.segment_bytes(each) for each in sizes
    ]
    growing = AllocatorSettings(large_segment_bytes=12 * MIB, expandable_segments=True)
    assert [segment_bytes(each, growing) // MIB for each in sizes] == [2, 2, 12, 12, 12, 36]
