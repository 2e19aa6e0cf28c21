"""The smallest capacity under each setting, against runs one step apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from naive_allocator import MIB, NaiveAllocator, OutOfMemory, write

from kvatlas.device import (
    CANDIDATES,
    AllocatorSettings,
    DeviceTwin,
    Limits,
    Survival,
    read_snapshot,
    survival_table,
)
from kvatlas.device.survival import survivals
from kvatlas.errors import InputError


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> DeviceTwin:
    """Many blocks of 7 MiB in segments of 20, cached ones of many sizes, then a failure."""
    naive = NaiveAllocator(AllocatorSettings(), capacity=1670 * MIB)
    for _ in range(2 * 67):
        naive.malloc(7 * MIB)
    for nbytes in (24, 60, 90, 33):
        naive.free(naive.malloc(nbytes * MIB))
    with pytest.raises(OutOfMemory):
        naive.malloc(384 * MIB)
    path = tmp_path_factory.mktemp("survival") / "snapshot.pickle"
    return DeviceTwin(read_snapshot(write(naive.dump(), path)))


@pytest.fixture(scope="module")
def table(twin: DeviceTwin) -> list[Survival]:
    return survival_table(twin)


def test_the_least_comes_first_and_every_candidate_is_there(table: list[Survival]) -> None:
    capacities = [one.capacity_bytes for one in table]
    assert capacities == sorted(capacities)
    assert {one.settings for one in table} == {AllocatorSettings.parse(each) for each in CANDIDATES}
    assert table[0].text == "expandable_segments:True"
    # 134 blocks of 7 MiB and 384 MiB in pages of 20.
    assert table[0].capacity_bytes == 67 * 20 * MIB
    assert table[-1].capacity_bytes > table[0].capacity_bytes


def test_one_step_less_does_not_suffice(twin: DeviceTwin, table: list[Survival]) -> None:
    for one in table:
        for capacity, suffices in (
            (one.capacity_bytes, True),
            (one.capacity_bytes - 2 * MIB, False),
        ):
            share = one.fraction
            allowed = None if share is None else int(capacity * share)
            limits = Limits(capacity_bytes=capacity, allowed_bytes=allowed)
            assert twin.what_if(one.settings, limits, start=one.start).oom is not suffices
        assert one.needed_beyond_active_bytes > 0
        assert (one.fraction is None) == (not one.settings.garbage_collection_threshold)
        assert "a limited capacity: not verified on recordings" in one.unverified


def test_of_equals_the_first_named_is_first(twin: DeviceTwin) -> None:
    same = ("max_split_size_mb:1024", "max_split_size_mb:2048")
    for named in (same, same[::-1]):
        assert [one.text for one in survival_table(twin, named)] == list(named)


def test_each_is_told_as_soon_as_it_is_known(twin: DeviceTwin) -> None:
    told: list[str] = []
    survival_table(
        twin, ["expandable_segments:True", ""], on_done=lambda one: told.append(one.text)
    )
    assert told == ["expandable_segments:True", ""]


def test_all_begin_alike_unless_said(twin: DeviceTwin) -> None:
    assert {one.start for one in survival_table(twin, ["", "large_segment_size_mb:32"])} == {
        "rebuilt"
    }
    assert survival_table(twin, [""], start="recorded")[0].start == "recorded"


def test_a_text_that_pytorch_refuses_is_refused_before_anything_runs(twin: DeviceTwin) -> None:
    with pytest.raises(InputError, match="True or False"):
        survivals(twin, ["", "expandable_segments:true"])


def test_collecting_that_leads_elsewhere_still_ends_in_one_that_survives(tmp_path: Path) -> None:
    """GIVEN a threshold so low that cached segments go early THEN the answer was run."""
    naive = NaiveAllocator(AllocatorSettings())
    for nbytes in (40, 60, 80, 30, 50, 70, 100, 44, 62):
        naive.free(naive.malloc(nbytes * MIB))
        naive.malloc(12 * MIB)
    twin = DeviceTwin(read_snapshot(write(naive.dump(), tmp_path / "s.pickle")))
    (one,) = survival_table(twin, ["garbage_collection_threshold:0.1"])
    limits = Limits(capacity_bytes=one.capacity_bytes, allowed_bytes=int(one.capacity_bytes * 0.99))
    found = twin.what_if(one.settings, limits, start="rebuilt")
    assert not found.oom
    assert found.collected > 0


def test_a_request_that_no_device_holds_is_refused(tmp_path: Path) -> None:
    """Else settings whose addresses end before it would look as if they served it."""
    naive = NaiveAllocator(AllocatorSettings(), capacity=100 * MIB)
    with pytest.raises(OutOfMemory):
        naive.malloc(3 << 40)
    found = DeviceTwin(read_snapshot(write(naive.dump(), tmp_path / "snapshot.pickle")))
    with pytest.raises(InputError, match="3 TiB were asked for at once"):
        survival_table(found, [""])
