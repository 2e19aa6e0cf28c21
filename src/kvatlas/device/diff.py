"""Two memory snapshots side by side: peaks, memory needed under each setting, stacks that grew.

Owns: what is compared and how. Leaves to others: replaying (`twin`), the smallest memory
(`survival`), conditions on it (`gate`), looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kvatlas.device.moment import AllocatorMoment
from kvatlas.device.results import RecordedReplay, Start
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.stack_keys import StackKey, stack_key
from kvatlas.device.stack_words import stack_name
from kvatlas.device.survival import Survival, survivals
from kvatlas.device.twin import DeviceTwin

__all__ = [
    "DIFF_SETTINGS",
    "Change",
    "DeviceDiff",
    "Side",
    "StackChange",
    "compare_sides",
    "side_of",
]

DIFF_SETTINGS = ("", "expandable_segments:True")
"""Settings under which both are tried when none are named, beside the recorded ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one snapshot shows.

    Attributes:
        settings: the recorded ones. replay: how it replays, with its timeline.
        figures: by name: peaks in bytes, counts.
        survivals: by settings, the recorded ones first.
        held: bytes of live blocks by stack at the peak of allocated bytes; `labels` name them.
    """

    settings: AllocatorSettings
    replay: RecordedReplay
    figures: Mapping[str, int]
    survivals: Mapping[AllocatorSettings, Survival]
    held: Mapping[StackKey, int] = field(repr=False)
    labels: Mapping[StackKey, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """A figure in either snapshot, in bytes or as a count."""

    name: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """After less before."""
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        """The change as a share of what was before, None where that was nothing."""
        return self.change / self.before if self.before else None


@dataclass(frozen=True, slots=True)
class StackChange:
    """Bytes that a stack's live blocks hold at the peak of allocated bytes, in either snapshot."""

    label: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """After less before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDiff:
    """What changed from one snapshot to another.

    Attributes:
        figures: peaks and counts.
        survivals: memory needed, by settings tried on both; `recorded` is each one's own.
        stacks: those that changed, most first by size; `stacks_same` did not.
    """

    before: Side
    after: Side
    figures: tuple[Change, ...]
    survivals: tuple[Change, ...]
    stacks: tuple[StackChange, ...]
    stacks_same: int


def side_of(
    twin: DeviceTwin,
    settings: Sequence[AllocatorSettings],
    *,
    start: Start | None = None,
) -> Iterator[Side | None]:
    """Yield None after each piece of work, and the side at the end.

    `settings` are tried beside the recorded ones: some twenty runs for each.
    """
    replay = twin.replay_recorded()
    yield None
    timeline = replay.timeline
    peak = int(np.argmax(timeline.allocated_bytes)) if len(twin.trace) else -1
    held, labels = _held(twin, twin.moment(peak))
    yield None
    found: dict[AllocatorSettings, Survival] = {}
    tried = list(dict.fromkeys((twin.settings, *settings)))
    for one in survivals(twin, tried, start=start):
        found[one.settings] = one
        yield None
    action = twin.trace.action
    yield Side(
        settings=twin.settings,
        replay=replay,
        figures={
            "allocated": int(timeline.allocated_bytes.max(initial=0)),
            "active": int(timeline.active_bytes.max(initial=0)),
            "reserved": int(timeline.reserved_bytes.max(initial=0)),
            "stuck": int(timeline.stuck_bytes.max(initial=0)),
            "idle": int(timeline.idle_bytes.max(initial=0)),
            "allocs": replay.allocs,
            "driver_calls": int(np.count_nonzero((action >= 3) & (action <= 6))),
            "ooms": int(np.count_nonzero(action == 7)),
        },
        survivals=found,
        held=held,
        labels=labels,
    )


def compare_sides(before: Side, after: Side) -> DeviceDiff:
    """Return what changed; O(stacks log stacks)."""
    own = before.survivals[before.settings], after.survivals[after.settings]
    shared = [each for each in before.survivals if each in after.survivals]
    held: dict[str, tuple[int, int]] = {}
    for key in before.held.keys() | after.held.keys():
        label = after.labels.get(key) or before.labels[key]
        one, other = held.get(label, (0, 0))
        held[label] = one + before.held.get(key, 0), other + after.held.get(key, 0)
    stacks = [StackChange(label, *pair) for label, pair in held.items()]
    moved = [each for each in stacks if each.change]
    return DeviceDiff(
        before=before,
        after=after,
        figures=tuple(
            Change(name, value, after.figures[name]) for name, value in before.figures.items()
        ),
        survivals=(
            Change("recorded", own[0].capacity_bytes, own[1].capacity_bytes),
            *(
                Change(
                    each.text(),
                    before.survivals[each].capacity_bytes,
                    after.survivals[each].capacity_bytes,
                )
                for each in shared
            ),
        ),
        stacks=tuple(sorted(moved, key=lambda each: (-abs(each.change), each.label))),
        stacks_same=len(stacks) - len(moved),
    )


def _held(
    twin: DeviceTwin, moment: AllocatorMoment
) -> tuple[dict[StackKey, int], dict[StackKey, str]]:
    live = moment.block_state != 0
    numbers, inverse = np.unique(moment.block_stack[live], return_inverse=True)
    sums = np.zeros(numbers.size, np.int64)
    np.add.at(sums, inverse.reshape(-1), moment.block_bytes[live])
    held: dict[StackKey, int] = {}
    labels: dict[StackKey, str] = {}
    for number, size in zip(numbers.tolist(), sums.tolist(), strict=True):
        frames = twin.snapshot.stacks.of(number)
        key = stack_key(frames)
        held[key] = held.get(key, 0) + size
        labels.setdefault(key, stack_name(frames))
    return held, labels
