"""PyTorch's message of every version: the figures, and what they say together."""

from __future__ import annotations

import random

import pytest
from messages import (
    ALLOWED,
    ALLOWED_OLD,
    CACHED,
    CAPACTY,
    CONTAINER,
    EVERY,
    GIB,
    HINTED,
    HIP,
    KIB,
    MIB,
    MODERN,
    POOLS,
    RESERVED,
    SCENE,
    TWO_PROCESSES,
    UNKNOWN_USE,
    XPU,
)

from kvatlas.oom import OomMessage, parse_message


def read(text: str) -> OomMessage:
    """Return the message in a text that has one."""
    found = parse_message(text)
    assert found is not None
    return found


def gib(size: float) -> int:
    """Return bytes of a printed figure."""
    return round(size * GIB)


@pytest.mark.parametrize(
    ("text", "asked", "total", "free", "allocated", "unallocated"),
    [
        (CACHED, 12.5 * MIB, 10.92 * GIB, 9.28 * GIB, 8.57 * MIB, 4.68 * MIB),
        (RESERVED, 20 * MIB, 5.8 * GIB, 6.69 * MIB, 4.36 * GIB, 0.27 * GIB),
        (HINTED, 1.63 * GIB, 44.56 * GIB, 565.31 * MIB, 27.91 * GIB, 0.02 * GIB),
        (CAPACTY, 32 * MIB, 4 * GIB, 41.56 * MIB, 2.58 * GIB, 1.9 * MIB),
        (MODERN, 22 * MIB, 23.65 * GIB, 11.06 * MIB, 22.9 * GIB, 194.87 * MIB),
        (HIP, 978 * MIB, 15.98 * GIB, 630 * MIB, 0, 0),
        (SCENE, 384 * MIB, 79.1 * GIB, 330 * MIB, 77.8 * GIB, 402 * MIB),
    ],
    ids=["cached", "reserved", "hinted", "capacty", "modern", "hip", "scene"],
)
def test_figures_of_every_form(
    text: str, asked: float, total: float, free: float, allocated: float, unallocated: float
) -> None:
    found = read(text)
    assert found.asked_bytes == round(asked)
    assert found.total_bytes == round(total)
    assert found.free_bytes == round(free)
    assert found.allocated_bytes == round(allocated)
    assert found.unallocated_bytes is not None
    assert abs(found.unallocated_bytes - unallocated) <= 1
    assert found.reserved_bytes == found.allocated_bytes + found.unallocated_bytes


def test_a_memory_fraction_is_read_in_both_forms() -> None:
    assert read(ALLOWED_OLD).allowed_bytes == gib(5.59)
    assert read(ALLOWED).allowed_bytes == gib(17.69)
    assert read(MODERN).allowed_bytes is None


def test_what_nvml_cannot_tell_is_unknown() -> None:
    """GIVEN 2**64 - 1 bytes in use, as Windows' driver says WHEN read THEN it is no figure."""
    found = read(UNKNOWN_USE)
    assert found.process_bytes is None
    assert found.outside_bytes is None
    assert found.allowed_bytes == gib(17.51)


def test_private_pools_are_free_bytes_inside_them() -> None:
    """PyTorch counts them among what is allocated; here live tensors are what is left."""
    found = read(POOLS)
    assert found.idle_bytes == gib(46.22)
    assert found.allocated_bytes == gib(47.0) - gib(46.22)
    assert found.reserved_bytes == gib(47.0) + round(149.1 * MIB)
    assert found.free_bytes == 896 * KIB


def test_the_version_that_a_form_came_with() -> None:
    assert [read(text).since for text in (CACHED, RESERVED, ALLOWED_OLD, HINTED, MODERN, XPU)] == [
        "1.0", "1.4", "1.4", "1.4", "2.1", "2.1",
    ]  # fmt: skip


def test_backend_and_device() -> None:
    assert (read(HIP).backend, read(XPU).backend, read(CACHED).backend) == ("HIP", "XPU", "CUDA")
    assert (read(XPU).device, read(HIP).device) == (3, 0)


def test_a_message_that_is_cut_off_keeps_its_head() -> None:
    found = read(MODERN[: MODERN.index("Of the allocated")])
    assert (found.asked_bytes, found.free_bytes) == (22 * MIB, round(11.06 * MIB))
    assert found.allocated_bytes is None
    assert found.unallocated_bytes is None
    assert found.reserved_bytes is None


def test_of_two_messages_the_first_is_read_and_only_that() -> None:
    found = read(XPU + " " + MODERN)
    assert (found.backend, found.allocated_bytes) == ("XPU", None)
    assert read(RESERVED + MODERN) == read(RESERVED)
    assert read(MODERN + RESERVED) == read(MODERN)


def test_line_ends_inside_are_blanks() -> None:
    assert read(MODERN.replace(" is free", "\n   is free")) == read(MODERN)


def test_who_else_is_there() -> None:
    """Inside a container a process is among those named, and is told by its size."""
    container, two = read(CONTAINER), read(TWO_PROCESSES)
    assert container.own_process == 2684311
    assert container.others_bytes == 0
    assert two.own_process == 1448259
    assert two.others_bytes == 344 * MIB
    assert read(ALLOWED).own_process is None  # the driver knows this process itself
    assert gib(17.54) <= (read(ALLOWED).others_bytes or 0) <= gib(17.57)
    assert read(MODERN).others_bytes == 0  # 40 MiB are the driver's
    assert read(CAPACTY).outside_bytes == gib(3.44) - gib(2.58) - round(1.9 * MIB)


def test_unnamed_others_are_what_is_unaccounted_for() -> None:
    """GIVEN 83 GiB of which this process holds 23 and nothing is free THEN others hold the rest."""
    text = MODERN.replace("23.65 GiB", "83.05 GiB")
    assert read(text).others_bytes == gib(83.05) - round(11.06 * MIB) - gib(23.6)


def test_two_decimals_leave_some_bytes_open() -> None:
    assert read(SCENE).slack_bytes < MIB
    assert 5 * MIB < read(HINTED).slack_bytes < 20 * MIB


@pytest.mark.parametrize("name", EVERY)
def test_damage_is_no_message_or_another_one(name: str) -> None:
    """Bounded patterns: whatever a line says, it is read or passed over, and quickly."""
    rng = random.Random(name)
    for _ in range(150):
        text = list(EVERY[name])
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choice(["", "9", ".", "GiB", " ", "\x00", "é"])
        found = parse_message("".join(text))
        assert found is None or found.asked_bytes >= 0
