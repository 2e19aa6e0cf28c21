"""The allocator twin: recorded traces replayed exactly, and run again under other settings.

Owns: `DeviceTwin`. Leaves to others: what its runs return (`results`), the
rules (the kernels), reading (`reading`), what was there at the beginning (`start`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._replay_kernel import make_room, run_freely, run_recorded
from kvatlas.device._twin_state_kernel import (
    ALLOCATE,
    COURSE,
    GROW,
    NONE,
    Operations,
    Twin,
)
from kvatlas.device.build import Limits, grown, make_twin
from kvatlas.device.check import check_twin
from kvatlas.device.endings import Ending, compare_ending
from kvatlas.device.lives import DeviceLives, lives_of
from kvatlas.device.moment import AllocatorMoment, moment_of
from kvatlas.device.operations import Links, Places, link, places_of, taken
from kvatlas.device.results import RecordedReplay, Start, Timeline, WhatIf
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import DeviceSnapshot, DeviceTrace
from kvatlas.device.start import StartState, empty_state, state_at_start
from kvatlas.device.survival import smallest_capacity
from kvatlas.device.unverified import of_recording, of_run
from kvatlas.errors import InputError
from kvatlas.records import Records, records

__all__ = ["DeviceTwin"]

I64 = NDArray[np.int64]
_WAITING_SEGMENTS = 64
_LEAST_ADDRESS = 2 << 20
"""New segments begin at multiples of this, and never at 0."""


class DeviceTwin:
    """One device of a snapshot, linked once and run as often as you like.

    Args:
        snapshot: what `read_snapshot` returned.
        device: which one; may be left out when only one has a trace.

    Raises: InputError when the device has no trace, or its trace contradicts itself.
    """

    def __init__(self, snapshot: DeviceSnapshot, device: int | None = None) -> None:
        self.snapshot = snapshot
        self.trace = _trace_of(snapshot, device)
        self.device = self.trace.device
        self._places: Places = places_of(snapshot, self.device, self.trace)
        self._links: Links = link(snapshot, self.trace, self._places)
        self._start: StartState = state_at_start(
            snapshot, self.device, self.trace, self._places, self._links
        )
        self._num_subjects = 1 + max(
            int(self._links.recorded.subject.max(initial=0)),
            int(self._start.block_subject.max(initial=0)),
        )

    @property
    def settings(self) -> AllocatorSettings:
        """The recorded settings."""
        return self.snapshot.settings

    def replay_recorded(self, *, check: bool = False) -> RecordedReplay:
        """Replay the trace; what the driver did is taken from it, all else is decided anew.

        O(events log blocks), some tenths of a microsecond an event once compiled.

        Args:
            check: verify the twin's books at the end (InvariantError).
        """
        series = np.zeros((len(self.trace), 5), np.int64)
        twin, course = self._recorded_run(len(self.trace), series)
        if check:
            check_twin(twin)
        moment = moment_of(twin, self._places, *self._origins, len(self.trace) - 1)
        ending: Ending = compare_ending(moment, self.snapshot, self.device)
        now, totals = course[0], twin.totals[0]
        action = self.trace.action
        first = int(now.first_difference)
        return RecordedReplay(
            device=self.device,
            events=len(self.trace),
            allocs=int(np.count_nonzero(action == 0)),
            frees=int(np.count_nonzero(action == 2)),
            addresses_equal=int(now.addresses),
            differences=int(now.differing),
            first_difference=None if first == NONE else first,
            reserved_bytes=(ending.reserved_bytes, int(totals.reserved)),
            allocated_bytes=(ending.allocated_bytes, int(totals.allocated)),
            segments=ending.segments,
            segments_equal=ending.segments_equal,
            blocks=ending.blocks,
            blocks_equal=ending.blocks_equal,
            unseen_tails=self._start.unseen_tails,
            unverified=of_recording(self.snapshot, self.trace, self._places),
            timeline=_timeline(series),
        )

    def moment(self, event: int) -> AllocatorMoment:
        """Return every segment and block after an event, replayed as recorded.

        O(events up to there). `event`: its number, -1 for the time before the first. Raises:
        InputError for one that the trace has not.
        """
        if not -1 <= event < len(self.trace):
            raise InputError(
                "no event of this trace",
                field="event",
                value=event,
                remedy=f"use -1 to {len(self.trace) - 1}",
            )
        twin, _ = self._recorded_run(event + 1, np.zeros((0, 5), np.int64))
        return moment_of(twin, self._places, *self._origins, event)

    def lives(self, timeline: Timeline) -> DeviceLives:
        """Return from when to when every block and segment lived; O(events log events).

        `timeline`: of `replay_recorded`. A moment of it shows what `moment` shows, without a run.
        """
        return lives_of(
            self.trace,
            self._links.recorded.subject.astype(np.int64),
            self.moment(-1),
            timeline,
            self._places.pools[self._places.of_event],
            self.settings.large_segment_bytes,
        )

    def what_if(
        self,
        settings: AllocatorSettings | None = None,
        limits: Limits | None = None,
        *,
        start: Start | None = None,
        timeline: bool = False,
        moment: bool = False,
        check: bool = False,
    ) -> WhatIf:
        """Run the same requests under other settings or limits.

        The driver is modelled: every new segment lies above all others, and memory suffices up to
        `limits.capacity_bytes` exactly. Frees that another stream delayed complete at the recorded
        moment, or when the device is waited for. The run ends where memory does not suffice.

        Args:
            settings: None: the recorded ones.
            limits: None: none.
            start: where to begin; None: `recorded` under the recorded settings, else `rebuilt`,
                since other settings would have led elsewhere.
            timeline: keep the bytes after every event (40 bytes each).
            moment: keep every segment and block at the end.
            check: verify the twin's books at the end (InvariantError).
        """
        settings = self.settings if settings is None else settings
        limits = Limits() if limits is None else limits
        if start is None:
            start = "recorded" if settings == self.settings else "rebuilt"
        operations, lead, fits = self._links.own, 0, True
        if start == "recorded":
            twin, node_of = self._at_start(settings, limits)
            fits = make_room(twin)
        else:
            twin, node_of = self._empty(settings, limits)
            operations, lead = self._led_by_old_blocks(operations)
        series = np.zeros((operations.code.size if timeline else 0, 5), np.int64)
        course = _course()
        now = course[0]
        while fits and run_freely(twin, operations, node_of, course, series) == GROW:
            twin = grown(twin)
        if check:
            check_twin(twin)
        totals = twin.totals[0]
        if not fits:
            now.ran_out_at, lead = 0, 1
        ran_out = int(now.ran_out_at)
        done = operations.code.size if ran_out == NONE else ran_out + 1
        stuck = int(totals.reserved - totals.active - totals.releasable - totals.idle)
        at = self._event_of(ran_out, lead)
        last = len(self.trace) - 1 if at is None else at
        return WhatIf(
            device=self.device,
            settings=settings,
            limits=limits,
            start=start,
            ran_out_at=at,
            refused_bytes=None if ran_out == NONE else int(now.refused),
            recorded_failures_survived=int(now.survived),
            peak_reserved_bytes=int(totals.peak_reserved),
            peak_allocated_bytes=int(totals.peak_allocated),
            peak_active_bytes=int(totals.peak_active),
            peak_requested_bytes=int(totals.peak_asked),
            peak_stuck_bytes=int(totals.peak_stuck),
            stuck_at_peak_bytes=int(totals.stuck_at_peak),
            releasable_at_peak_bytes=int(totals.releasable_at_peak),
            reserved_bytes=int(totals.reserved),
            allocated_bytes=int(totals.allocated),
            stuck_bytes=stuck,
            releasable_bytes=int(totals.releasable),
            idle_bytes=int(totals.idle),
            retries=int(totals.retries),
            segments=int(totals.segments),
            releases=int(totals.releases),
            collected=int(totals.collected),
            unverified=of_run(
                self.snapshot, self.trace, self._places, settings, limits, int(totals.retries)
            ),
            timeline=_timeline(series[min(lead, done) : done]) if timeline else None,
            moment=moment_of(twin, self._places, *self._origins, last) if moment else None,
        )

    def survival_capacity(
        self, settings: AllocatorSettings | None = None, *, start: Start | None = None
    ) -> int:
        """Return the smallest capacity in bytes, to 2 MiB, under which memory suffices.

        Some twenty runs; the answer is one that survived.
        """
        return smallest_capacity(self, settings, start=start)

    def _recorded_run(self, events: int, series: I64) -> tuple[Twin, Records]:
        """Return the twin after the first events of the trace, and what was compared."""
        twin, node_of = self._at_start(self.settings, Limits())
        operations = taken(self._links.recorded, slice(events))
        waiting = np.zeros((_WAITING_SEGMENTS, 2), np.int64)
        course = _course()
        while run_recorded(twin, operations, node_of, course, waiting, series) == GROW:
            twin = grown(twin)
        return twin, course

    @cached_property
    def _origins(self) -> tuple[I64, I64]:
        """Return the stack and the event of every allocation; 0 and -1 where not known."""
        stack, event = np.zeros(self._num_subjects, np.int64), np.full(self._num_subjects, NONE)
        allocs = np.flatnonzero(self.trace.action == 0)
        subjects = self._links.recorded.subject[allocs]
        stack[subjects], event[subjects] = self.trace.stack[allocs], allocs
        blocks, start = self.snapshot.blocks, self._start
        # What the trace never mentions has its stack in the snapshot.
        silent = start.block_subject >= self._links.num_old + allocs.size
        of_device = np.repeat(
            self.snapshot.segments.device == self.device,
            np.diff(self.snapshot.segments.first_block),
        )
        mine = np.flatnonzero(of_device)
        at = mine[np.searchsorted(blocks.address[mine], start.block_address[silent])]
        stack[start.block_subject[silent]] = blocks.stack[at]
        return stack, event

    def _event_of(self, operation: int, lead: int) -> int | None:
        """Return the event of an operation, -1 for one before the trace, None for none."""
        if operation == NONE:
            return None
        return int(self._links.own_event[operation - lead]) if operation >= lead else -1

    def _highest_address(self) -> int:
        trace, segments = self.trace, self.snapshot.segments
        ends = [0, *(segments.address + segments.nbytes).tolist()]
        real = trace.action <= 6  # the address of a failure is free memory
        high = int((trace.address[real] + trace.nbytes[real]).max(initial=0))
        highest: int = max(high, *ends)
        return -(-highest // _LEAST_ADDRESS) * _LEAST_ADDRESS

    def _at_start(self, settings: AllocatorSettings, limits: Limits) -> tuple[Twin, Any]:
        return make_twin(
            self._start,
            self._places.pools,
            self._places.streams,
            settings,
            limits,
            self._num_subjects,
            self._highest_address(),
        )

    def _empty(self, settings: AllocatorSettings, limits: Limits) -> tuple[Twin, Any]:
        return make_twin(
            empty_state(),
            self._places.pools,
            self._places.streams,
            settings,
            limits,
            self._num_subjects,
            _LEAST_ADDRESS,
        )

    def _led_by_old_blocks(self, operations: Operations) -> tuple[Operations, int]:
        """Return the operations after one allocation for every block that was there."""
        start = self._start
        lead = start.block_subject.size
        home = np.searchsorted(start.address, start.block_address, "right") - 1
        return (
            Operations(
                np.concatenate([np.full(lead, ALLOCATE, np.uint8), operations.code]),
                np.concatenate([start.block_subject.astype(np.int32), operations.subject]),
                np.concatenate([start.block_asked, operations.nbytes]),
                np.concatenate([(2 * start.pair[home]).astype(np.int32), operations.shelf]),
                np.concatenate([start.block_address, operations.address]),
            ),
            lead,
        )


def _course() -> Records:
    course = records(1, COURSE)
    course["ran_out_at"] = course["first_difference"] = course["mapped"] = NONE
    return course


def _timeline(series: I64) -> Timeline:
    return Timeline(*(np.ascontiguousarray(series[:, at]) for at in range(5)))


def _trace_of(snapshot: DeviceSnapshot, device: int | None) -> DeviceTrace:
    if device is not None:
        trace = snapshot.trace(device)
        if trace is None:
            raise InputError(
                "no trace of this device in the snapshot",
                field="device",
                value=device,
                remedy=f"devices with one: {[trace.device for trace in snapshot.traces]}",
            )
        return trace
    if len(snapshot.traces) != 1:
        raise InputError(
            f"traces of {len(snapshot.traces)} devices in the snapshot",
            field="device",
            remedy="name one"
            if snapshot.traces
            else "record with torch.cuda.memory._record_memory_history()",
        )
    return snapshot.traces[0]
