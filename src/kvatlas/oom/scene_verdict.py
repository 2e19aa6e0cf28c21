"""Why a request failed at a scene: the cause, in a sentence, and what the sentence rests on.

Owns: the ladder from what was free to what would have been enough, and the wording. Leaves to
others: the scene (`scene`), remedies (`snapshot_remedies`).
"""

from __future__ import annotations

from kvatlas.budget.startup_log import StartupLog
from kvatlas.device import DeviceTwin, Limits, RecordedReplay
from kvatlas.device.stack_words import stack_name
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message import OomMessage
from kvatlas.oom.scene import Scene
from kvatlas.oom.settings_table import SettingOutcome
from kvatlas.oom.snapshot_remedies import choose_setting, snapshot_remedies
from kvatlas.oom.verdict import (
    DRIVERS_OWN,
    RUNGS,
    Cause,
    OomVerdict,
    cause_of_rung,
    ladder,
)
from kvatlas.units import counted, format_bytes

__all__ = ["scene_verdict"]


def scene_verdict(
    twin: DeviceTwin,
    scene: Scene,
    *,
    capacity: int,
    own: int,
    rows: tuple[SettingOutcome, ...],
    order: tuple[str, ...],
    message: OomMessage | None,
    block: KvBlock | None,
    startup: StartupLog | None,
) -> OomVerdict:
    """Return the verdict on a failure, recorded or replayed. Four runs of the trace.

    Args:
        capacity: bytes that PyTorch could have had. own: what the recorded settings need.
        rows: other settings, replayed. order: their texts, what changes least first.
        message, startup: the same failure in a log, and its server. block: one KV block.
    """
    free = max(0, capacity - scene.reserved_bytes)
    room = scene.free_bytes - scene.needed_bytes if scene.recorded else -1
    tight, limited = 0 <= room < DRIVERS_OWN, room >= DRIVERS_OWN
    rungs: list[tuple[str, int | None]] = [
        ("free, kept by the driver", 0) if tight else ("free on the device", free)
    ]
    if scene.releasable_bytes:
        rungs.append((RUNGS["releasable"], scene.releasable_bytes))
    rungs.append((RUNGS["stuck"], scene.stuck_bytes))
    if scene.idle_bytes:
        rungs.append((RUNGS["idle"], scene.idle_bytes))
    if message is not None and message.others_bytes != 0:
        rungs.append((RUNGS["others"], message.others_bytes))
    steps, first = ladder(scene.asked_bytes, tuple(rungs))
    cause: Cause = "capacity"
    if limited:
        cause = "memory-fraction"
    elif first == 0:
        cause = "fragmentation"  # room for the request, not for the segment that it needs
    elif first is not None:
        cause = cause_of_rung(steps[first].name)
    line = _line(scene, cause, scene.free_bytes if tight else free, steps[-1].sum_bytes)
    # What is asked for after this failure counts too, where the memory was only supposed.
    live = 0 if scene.recorded else twin.what_if().peak_active_bytes
    if live > capacity:
        cause = "capacity"
        line += (
            f" Whatever is done about that, live blocks alone come to {format_bytes(live)} later, "
            f"{format_bytes(live - capacity)} more than there is."
        )
    chosen = choose_setting(rows, order)
    replayed = twin.replay_recorded()
    check = twin.what_if(limits=Limits(capacity_bytes=max(1, capacity)))
    unverified = (
        *replayed.unverified,
        *check.unverified,
        *(() if chosen is None else chosen.unverified),
    )
    return OomVerdict(
        cause=cause,
        line=line,
        reasons=tuple(_reasons(twin, scene, capacity, own, rows)),
        steps=steps,
        remedies=snapshot_remedies(
            rows,
            chosen,
            capacity_bytes=capacity,
            own_bytes=own,
            total_bytes=None if message is None else message.total_bytes,
            cause=cause,
            short_bytes=max(0, scene.asked_bytes - free),
            active_bytes=scene.active_bytes,
            order=order,
            block=block,
            startup=startup,
        ),
        notes=(
            *_doubts(replayed, tight, scene),
            *_notes(
                scene,
                capacity,
                check.ran_out_at,
                twin.trace.failures().tolist(),
                limited,
                chosen,
                message,
            ),
        ),
        unverified=tuple(dict.fromkeys(unverified)),
    )


def _line(scene: Scene, cause: Cause, free: int, together: int) -> str:
    asked, there = format_bytes(scene.asked_bytes), format_bytes(free)
    began = (
        ""
        if scene.recorded
        else f"In {format_bytes(scene.capacity_bytes)} these requests would fail: "
    )
    if cause == "memory-fraction":
        return (
            f"{began}{asked} asked, {format_bytes(scene.free_bytes)} free on the device, and still "
            "refused: the process may not use more, by a memory fraction or a limit of the driver."
        )
    if cause == "fragmentation":
        if free >= scene.asked_bytes:
            return (
                f"{began}{asked} asked and {there} free, but such a request needs a segment of "
                f"{format_bytes(scene.needed_bytes)}; {format_bytes(scene.stuck_bytes)} lie free "
                "in segments that live blocks pin."
            )
        return (
            f"{began}{asked} asked, {there} free on the device, and "
            f"{format_bytes(scene.stuck_bytes)} free in "
            f"{counted(scene.pinned_segments, 'segment')} that live blocks pin, the largest piece "
            f"{format_bytes(scene.largest_bytes)}: enough together, nowhere in one piece."
        )
    if cause == "private-pools":
        return (
            f"{began}{asked} asked, {there} free on the device; {format_bytes(scene.idle_bytes)} "
            f"lie free inside {counted(len(scene.pools), 'private pool')}, which only CUDA graphs "
            "or whoever made them may use."
        )
    short = format_bytes(max(0, scene.asked_bytes - together))
    if cause == "other-processes":
        return f"{began}{asked} asked, {there} free: others hold the rest of the device."
    return (
        f"{began}{asked} asked, {there} free on the device; with every free byte in one piece it "
        f"would still be {short} short."
    )


def _reasons(
    twin: DeviceTwin, scene: Scene, capacity: int, own: int, rows: tuple[SettingOutcome, ...]
) -> list[str]:
    stacks = twin.snapshot.stacks
    found = [
        f"PyTorch held {format_bytes(scene.reserved_bytes)}: {format_bytes(scene.active_bytes)} in "
        f"live blocks, {format_bytes(scene.stuck_bytes)} stuck"
        + (f", {format_bytes(scene.releasable_bytes)} in whole free segments"
           if scene.releasable_bytes else "")
        + (f", {format_bytes(scene.idle_bytes)} idle in private pools" if scene.idle_bytes else "")
        + f"; {format_bytes(max(0, capacity - scene.reserved_bytes))} were left."
    ]  # fmt: skip
    if asker := stacks.of(scene.stack):
        found.append(f"It was asked for by {stack_name(asker)}.")
    pinning = [one for one in scene.pinning if one.alone_bytes or one.shared_bytes]
    if pinning and scene.stuck_bytes:
        first = pinning[0]
        calls = stacks.of(first.stack)
        who = stack_name(calls) if calls else "blocks whose stack was not recorded"
        alone = first.alone_bytes
        found.append(
            f"Most is pinned by {who}: {counted(first.blocks, 'block')} of "
            f"{format_bytes(first.held_bytes)} in {counted(first.segments, 'segment')} keep "
            f"{format_bytes(alone or first.shared_bytes)} from being of use"
            + ("." if alone else ", together with others.")
        )
    needed = scene.active_bytes + scene.asked_bytes
    if needed > capacity:
        found.append(
            f"Live blocks and the request are {format_bytes(needed)} together, more than the "
            f"{format_bytes(capacity)} that there were: no setting can help."
        )
    elif rows:
        passing = sum(row.survives for row in rows)
        found.append(
            f"The recorded settings need {format_bytes(own)}, as memory lay when the trace began; "
            f"{passing} of {len(rows)} settings that were replayed from fresh segments pass."
        )
    return found


def _notes(
    scene: Scene,
    capacity: int,
    ran_out_at: int | None,
    recorded: list[int],
    limited: bool,
    chosen: SettingOutcome | None,
    message: OomMessage | None,
) -> list[str]:
    notes = []
    if scene.recorded and ran_out_at not in recorded:
        notes.append(
            f"Given {format_bytes(capacity)}, the twin "
            + ("does not fail at all" if ran_out_at is None
               else f"fails at event {ran_out_at:,}, not at {scene.event:,}")
            + ": the real driver gave less, or otherwise. Take the settings table with care."
        )  # fmt: skip
    if scene.failures > 1:
        notes.append(
            f"The recording has {scene.failures:,} failures, and this is one of them; a setting "
            "passes where none of them comes."
        )
    if limited and message is None:
        notes.append(
            "The recording does not say how much was allowed; it is taken to be just too little "
            f"for this request: {format_bytes(capacity)}."
        )
    if message is None and scene.recorded:
        notes.append(
            "What other processes held is not in a snapshot; give the log, too: "
            "`kvatlas oom LOG --snapshot SNAPSHOT`."
        )
    if message is not None and scene.recorded:
        notes += _same_failure(scene, message)
    if chosen is not None and chosen.text.startswith("expandable_segments"):
        notes.append(
            "vLLM refuses expandable segments beside a KV connector without its cumem allocator."
        )
    if chosen is not None and chosen.fraction is not None:
        notes.append(
            "Garbage collection acts only under a memory fraction: "
            f"torch.cuda.set_per_process_memory_fraction({chosen.fraction:g})."
        )
    return notes


def _same_failure(scene: Scene, message: OomMessage) -> list[str]:
    if abs(scene.needed_bytes - message.asked_bytes) > max(message.slack_bytes, 2 << 20):
        return [
            f"The log's first failure asked for {format_bytes(message.asked_bytes)}, the "
            f"snapshot's for {format_bytes(scene.needed_bytes)}: they are not the same."
        ]
    return []


def _doubts(replayed: RecordedReplay, tight: bool, scene: Scene) -> list[str]:
    found = []
    if not replayed.identical:
        found.append(
            "The twin does not decide as recorded ("
            + counted(replayed.differences, "difference")
            + "): take all of this with care."
        )
    if tight:
        found.append(
            f"The last {format_bytes(scene.free_bytes)} of a device are of no use: the driver "
            "keeps some MiB for itself."
        )
    return found
