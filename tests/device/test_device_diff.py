"""Two snapshots side by side, and the conditions that a CI job fails on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from naive_allocator import MIB, NaiveAllocator, write

from kvatlas.device import AllocatorSettings, DeviceTwin, Frame, read_snapshot
from kvatlas.device.diff import DeviceDiff, Side, compare_sides, side_of
from kvatlas.device.gate import judge, parse_condition
from kvatlas.device.stack_keys import stack_key
from kvatlas.errors import InputError

EXPANDABLE = AllocatorSettings(expandable_segments=True)


def frames(name: str, line: int, folder: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "filename": f"{folder}/app/serving/model.py", "line": line},
        {"name": "main", "filename": f"{folder}/app/serving/main.py", "line": 3},
    ]


def side(path: Path, activations: int, line: int, folder: str) -> Side:
    """Weights of 100 MiB, and so many activations of 30 MiB that all live at the peak."""
    naive = NaiveAllocator(AllocatorSettings())
    naive.malloc(100 * MIB)
    held = [naive.malloc(30 * MIB) for _ in range(activations)]
    for piece in held:
        naive.free(piece)
    dumped = naive.dump()
    for event in dumped["device_traces"][0]:
        name = "load_weights" if event["size"] == 100 * MIB else "forward"
        event["frames"] = frames(name, line, folder)
    twin = DeviceTwin(read_snapshot(write(dumped, path / "snapshot.pickle")))
    found = [each for each in side_of(twin, [AllocatorSettings(), EXPANDABLE]) if each is not None]
    return found[0]


@pytest.fixture(scope="module")
def diff(tmp_path_factory: pytest.TempPathFactory) -> DeviceDiff:
    """GIVEN the same program in another folder, edited, with a fourth activation."""
    path = tmp_path_factory.mktemp("diff")
    return compare_sides(side(path, 3, 12, "/home/a"), side(path, 4, 40, "/srv/b"))


def test_peaks_and_memory_needed(diff: DeviceDiff) -> None:
    figures = {each.name: (each.before, each.after) for each in diff.figures}
    assert figures["allocated"] == (190 * MIB, 220 * MIB)
    assert figures["reserved"] == (190 * MIB, 220 * MIB)
    assert figures["stuck"] == (0, 0)
    assert figures["ooms"] == (0, 0)
    assert figures["allocs"] == (4, 5)
    needed = {each.name: (each.before, each.after) for each in diff.survivals}
    assert needed["recorded"] == (190 * MIB, 220 * MIB)
    assert needed["expandable_segments:True"] == (200 * MIB, 220 * MIB)


def test_stacks_are_the_same_across_folders_and_edits(diff: DeviceDiff) -> None:
    (grown,) = diff.stacks
    assert grown.label == "forward (serving/model.py:40)"
    assert (grown.before, grown.after) == (90 * MIB, 120 * MIB)
    assert diff.stacks_same == 1


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("survival>+2%", True),
        ("survival>2%", True),
        ("survival > +16%", False),
        ("survival>+15%", True),
        ("survival>=+30MiB", True),
        ("survival>+30MiB", False),
        ("survival>219MiB", True),
        ("survival>220MiB", False),
        ("survival<=220MiB", True),
        ("survival(expandable_segments:True)>+10%", False),
        ("survival(expandable_segments:True)>=+10%", True),
        ("survival()>+2%", True),
        ("reserved<-1%", False),
        ("reserved>-1%", True),
        ("stuck>+0%", False),
        ("stuck>=0", True),
        ("allocs>+1", False),
        ("allocs>=+1", True),
        ("allocs>+24%", True),
        ("ooms>0", False),
    ],
)
def test_conditions(text: str, met: bool, diff: DeviceDiff) -> None:
    assert judge(parse_condition(text), diff).met is met


@pytest.mark.parametrize(
    "text",
    ["", "survival", "survival>", "survival>+two%", "survival>1.2.3%", "survival>+2 parsecs",
     "allocs>2GiB", "ooms>1.5", "reserved(backend:native)>1%", "survival(x:1)>1%",
     "survival(expandable_segments:true)>1%", ">2%", "survival=2%", "survival>+2%%",
     "ooms>" + 5000 * "1"],
)  # fmt: skip
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(InputError):
        parse_condition(text)


def test_figures_and_settings_that_are_not_there(diff: DeviceDiff) -> None:
    with pytest.raises(InputError, match=r"no such figure.*survival, allocated"):
        judge(parse_condition("memory>2%"), diff)
    with pytest.raises(InputError, match="--fail-if: expandable_segments"):
        parse_condition("survival(expandable_segments:true)>1%")
    with pytest.raises(InputError, match="max_split_size_mb:64"):
        judge(parse_condition("survival(max_split_size_mb:64)>2%"), diff)


def test_a_stack_is_known_by_its_functions_and_files() -> None:
    deep = [Frame("f", f"{root}/a/b/model.py", line) for root, line in (("/x", 1), ("/y/z", 2))]
    assert stack_key(deep[:1]) == stack_key(deep[1:])
    for other in (Frame("g", "/x/a/b/model.py", 1), Frame("f", "/x/a/c/model.py", 1)):
        assert stack_key(deep[:1]) != stack_key([other])
    assert stack_key(deep) != stack_key(deep[:1])
