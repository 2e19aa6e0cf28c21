"""Why a recorded request failed, and the one settings change under which it does not.

Owns: the verdict on a memory snapshot, with a failure in it, in less memory, or without one. Leaves
to others: the scene (`scene`), the settings' runs (`kvatlas.device.survival`), which is best
(`settings_table`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvatlas.device import DeviceTwin, Limits
from kvatlas.device.survival import CANDIDATES, Survival, survivals
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message import OomMessage
from kvatlas.oom.message_verdict import give_up
from kvatlas.oom.scene import Scene, failures_of, recorded_scene, replayed_scene, stack_words
from kvatlas.oom.settings_table import SettingOutcome, choose, outcomes
from kvatlas.oom.verdict import Cause, OomVerdict, Remedy, ladder
from kvatlas.units import format_bytes

__all__ = ["SnapshotExplanation", "explain_snapshot"]

_FREE, _STUCK = "free on the device", "free, but pinned by live blocks"
_IDLE, _ELSEWHERE = "free in private pools", "elsewhere"
_RELEASABLE = "free, not released"
_CAUSE_OF: dict[str, Cause] = {
    _RELEASABLE: "fragmentation",
    _STUCK: "fragmentation",
    _IDLE: "private-pools",
    _ELSEWHERE: "other-processes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotExplanation:
    """A snapshot explained.

    Attributes:
        device: which; events: of its trace; settings: the recording's, "" for the defaults.
        scene: the failure, None where there is none.
        capacity_bytes: the memory that everything is compared with, None: none is known.
        survival_bytes: the smallest memory in which the recording's own settings pass.
        settings_rows: the settings that were tried, least memory first; untried: those left out
            because somebody interrupted.
        verdict: the answer.
    """

    device: int
    events: int
    settings: str
    scene: Scene | None
    capacity_bytes: int | None
    survival_bytes: int
    settings_rows: tuple[SettingOutcome, ...]
    untried: int
    verdict: OomVerdict


def explain_snapshot(
    twin: DeviceTwin,
    *,
    capacity_bytes: int | None = None,
    message: OomMessage | None = None,
    block: KvBlock | None = None,
    candidates: tuple[str, ...] = CANDIDATES,
    on_done: Callable[[int, int], object] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> SnapshotExplanation:
    """Return why the recorded requests failed, or in how much memory they would.

    Some twenty runs of the trace per candidate.

    Args:
        capacity_bytes: memory for PyTorch; None: what there was at the recorded failure.
        message: the same failure's message, which knows the rest of the device.
        block: one KV block, to say costs in blocks.
        on_done: is told how many candidates are done, of how many.
        stop: asked between candidates; what is done is used.
    """
    recorded_text = twin.settings.text()
    tried = tuple(dict.fromkeys((recorded_text, *candidates)))
    scene = _scene(twin, capacity_bytes, message)
    capacity = capacity_bytes
    if capacity is None and scene is not None:
        capacity = _capacity(scene, message)
    own = twin.survival_capacity()
    found: list[Survival] = []
    for at, one in enumerate(survivals(twin, tried)):
        found.append(one)
        if on_done is not None:
            on_done(at + 1, len(tried))
        if stop():
            break
    found.sort(key=lambda one: one.capacity_bytes)
    reserved = scene.reserved_bytes if scene is not None else own
    rows = outcomes(
        found,
        capacity_bytes=own if capacity is None else capacity,
        reserved_bytes=reserved,
        recorded=recorded_text,
        block=block,
    )
    if scene is None:
        verdict = _without_failure(twin, capacity, own, rows, candidates)
    else:
        verdict = _with_failure(twin, scene, capacity or 0, own, rows, candidates, message, block)
    return SnapshotExplanation(
        device=twin.device,
        events=len(twin.trace),
        settings=recorded_text,
        scene=scene,
        capacity_bytes=capacity,
        survival_bytes=own,
        settings_rows=rows,
        untried=len(tried) - len(found),
        verdict=verdict,
    )


def _scene(twin: DeviceTwin, capacity: int | None, message: OomMessage | None) -> Scene | None:
    """Return the failure to explain: in the given memory, or the recorded one that is meant."""
    if capacity is not None:
        return replayed_scene(twin, capacity)
    events = failures_of(twin)
    if not events:
        return None
    chosen = events[0]
    if message is not None:
        alike = [
            event
            for event in events
            if abs(int(twin.trace.address[event]) - message.free_bytes) <= message.slack_bytes
        ]
        chosen = alike[0] if alike else chosen
    return recorded_scene(twin, chosen)


def _capacity(scene: Scene, message: OomMessage | None) -> int:
    """Return the memory that PyTorch could have had at a recorded failure.

    Where there was room for the segment, something else said no: a memory fraction. Then it is what
    PyTorch had, and what the message says it was allowed.
    """
    if message is not None and message.allowed_bytes is not None:
        return min(scene.capacity_bytes, message.allowed_bytes)
    if scene.free_bytes >= scene.needed_bytes:
        return scene.reserved_bytes + scene.needed_bytes - 1
    return scene.capacity_bytes


def _with_failure(
    twin: DeviceTwin,
    scene: Scene,
    capacity: int,
    own: int,
    rows: tuple[SettingOutcome, ...],
    order: tuple[str, ...],
    message: OomMessage | None,
    block: KvBlock | None,
) -> OomVerdict:
    free = max(0, capacity - scene.reserved_bytes)
    rungs: list[tuple[str, int | None]] = [(_FREE, free)]
    if scene.releasable_bytes:
        rungs.append((_RELEASABLE, scene.releasable_bytes))
    rungs.append((_STUCK, scene.stuck_bytes))
    if scene.idle_bytes:
        rungs.append((_IDLE, scene.idle_bytes))
    if message is not None:
        rungs.append((_ELSEWHERE, message.elsewhere_bytes))
    steps, first = ladder(scene.asked_bytes, tuple(rungs))
    limited = scene.recorded and scene.free_bytes >= scene.needed_bytes
    cause: Cause = "capacity"
    if limited:
        cause = "memory-fraction"
    elif first == 0:
        cause = "fragmentation"  # room for the request, not for the segment that it needs
    elif first is not None:
        cause = _CAUSE_OF[steps[first].name]
    chosen = choose(rows, order)
    remedies = _remedies(scene, capacity, rows, chosen, block, message, cause)
    notes = []
    check = twin.what_if(limits=Limits(capacity_bytes=max(1, capacity)))
    if scene.recorded and check.ran_out_at != scene.event:
        notes.append(
            f"Given {format_bytes(capacity)}, the twin "
            + ("does not fail at all" if check.ran_out_at is None
               else f"fails at event {check.ran_out_at:,}, not at {scene.event:,}")
            + ": the real driver gave less, or gave it otherwise. Take the settings table with care."
        )  # fmt: skip
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
    unverified = dict.fromkeys(
        (*twin.replay_recorded().unverified, *check.unverified, *(chosen or _NOTHING).unverified)
    )
    return OomVerdict(
        cause=cause,
        line=_line(scene, cause, free, steps[-1].sum_bytes),
        reasons=tuple(_reasons(twin, scene, capacity, own, rows)),
        steps=steps,
        remedies=remedies,
        notes=tuple(notes),
        unverified=tuple(unverified),
    )


_NOTHING = SettingOutcome(
    text="",
    recorded=False,
    fraction=None,
    needs_bytes=0,
    survives=False,
    spare_bytes=0,
    more_bytes=0,
    kv_blocks=None,
    unverified=(),
)


def _remedies(
    scene: Scene,
    capacity: int,
    rows: tuple[SettingOutcome, ...],
    chosen: SettingOutcome | None,
    block: KvBlock | None,
    message: OomMessage | None,
    cause: Cause,
) -> tuple[Remedy, ...]:
    found = []
    if cause == "memory-fraction":
        found.append(
            Remedy(
                text="Raise or drop the process's own limit: the device had room.",
                setting="torch.cuda.set_per_process_memory_fraction",
                basis="advice",
            )
        )
    if chosen is not None:
        found.append(
            Remedy(
                text=f"The same requests pass in the same memory: they need "
                f"{format_bytes(chosen.needs_bytes)} of {format_bytes(capacity)}, "
                f"{_spare(chosen.spare_bytes, block)} to spare. It costs no KV block.",
                setting=f"PYTORCH_CUDA_ALLOC_CONF={chosen.text or _plain(rows)}",
                basis="replayed",
            )
        )
    total = None if message is None else message.total_bytes
    if chosen is None and rows:
        best = rows[0]
        found.append(
            give_up(
                -best.spare_bytes,
                block,
                None,
                total,
                why=f"No setting passes in {format_bytes(capacity)}; the best needs "
                f"{format_bytes(best.needs_bytes)}",
                setting="" if best.recorded else f"PYTORCH_CUDA_ALLOC_CONF={best.text}",
            )
        )
    own = next((row for row in rows if row.recorded), None)
    if own is not None and not own.survives and own is not rows[0]:
        found.append(
            give_up(
                -own.spare_bytes,
                block,
                None,
                total,
                why=f"Under the settings as they are, {format_bytes(own.needs_bytes)} are needed",
            )
        )
    return tuple(found)


def _plain(rows: tuple[SettingOutcome, ...]) -> str:
    """Return the text of the defaults where something else was recorded."""
    own = next((row.text for row in rows if row.recorded), "")
    return "expandable_segments:False" if "expandable" in own else ""


def _spare(size: int, block: KvBlock | None) -> str:
    text = format_bytes(size)
    if block is None or size < block.size_bytes:
        return text
    return f"{text} ({size // block.size_bytes:,} KV blocks)"


def _line(scene: Scene, cause: Cause, free: int, together: int) -> str:
    asked, there = format_bytes(scene.asked_bytes), format_bytes(free)
    began = "" if scene.recorded else f"In {format_bytes(scene.capacity_bytes)} they would fail: "
    if cause == "memory-fraction":
        return (
            f"{began}{asked} asked, {format_bytes(scene.free_bytes)} free on the device, and still "
            "refused: the process may not use more, by a memory fraction or a limit of the driver."
        )
    if cause == "fragmentation":
        if free >= scene.asked_bytes:
            return (
                f"{began}{asked} asked and {there} free, but such a request needs a segment of "
                f"{format_bytes(scene.needed_bytes)}; {format_bytes(scene.stuck_bytes)} lie free in "
                "segments that live blocks pin."
            )
        return (
            f"{began}{asked} asked, {there} free on the device, and "
            f"{format_bytes(scene.stuck_bytes)} free in {_count(scene.pinned_segments, 'segment')} "
            f"that live blocks pin, the largest piece {format_bytes(scene.largest_bytes)}: enough "
            "together, nowhere in one piece."
        )
    if cause == "private-pools":
        return (
            f"{began}{asked} asked, {there} free on the device; {format_bytes(scene.idle_bytes)} "
            f"lie free inside {_count(len(scene.pools), 'private pool')}, which only CUDA graphs "
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
    asker = stack_words(stacks, scene.stack)
    if asker:
        found.append(f"It was asked for by {asker}.")
    pinning = [one for one in scene.pinning if one.alone_bytes or one.shared_bytes]
    if pinning and scene.stuck_bytes:
        first = pinning[0]
        who = stack_words(stacks, first.stack) or "blocks whose stack was not recorded"
        alone = first.alone_bytes
        found.append(
            f"{who} pins most: {_count(first.blocks, 'block')} of "
            f"{format_bytes(first.held_bytes)} keep "
            f"{format_bytes(alone or first.shared_bytes)} in {_count(first.segments, 'segment')}"
            + (" from being of use." if alone else ", together with others.")
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
            f"The recorded settings need {format_bytes(own)}; {passing} of {len(rows)} settings "
            "that were replayed pass."
        )
    return found


def _same_failure(scene: Scene, message: OomMessage) -> list[str]:
    if abs(scene.needed_bytes - message.asked_bytes) > max(message.slack_bytes, 2 << 20):
        return [
            f"The log's first failure asked for {format_bytes(message.asked_bytes)}, the "
            f"snapshot's for {format_bytes(scene.needed_bytes)}: they are not the same."
        ]
    return []


def _without_failure(
    twin: DeviceTwin,
    capacity: int | None,
    own: int,
    rows: tuple[SettingOutcome, ...],
    order: tuple[str, ...],
) -> OomVerdict:
    free = twin.what_if()
    unverified = tuple(dict.fromkeys((*twin.replay_recorded().unverified, *free.unverified)))
    best = rows[0] if rows else None
    reasons = [
        f"At its peak PyTorch held {format_bytes(free.peak_reserved_bytes)}, of which "
        f"{format_bytes(free.peak_active_bytes)} in live blocks; up to "
        f"{format_bytes(free.peak_stuck_bytes)} were stuck.",
    ]
    if best is not None and best.needs_bytes < own:
        reasons.append(
            f"With {best.text or 'the defaults'} they would need {format_bytes(best.needs_bytes)}."
        )
    chosen = None if best is None else choose(rows, order)
    remedies = []
    if chosen is not None and chosen.needs_bytes < own:
        remedies.append(
            Remedy(
                text=f"The same requests then need {format_bytes(chosen.needs_bytes)}, "
                f"{format_bytes(own - chosen.needs_bytes)} less.",
                setting=f"PYTORCH_CUDA_ALLOC_CONF={chosen.text or _plain(rows)}",
                basis="replayed",
            )
        )
    if capacity is not None:
        line = (
            f"In {format_bytes(capacity)} they pass: the smallest memory that suffices is "
            f"{format_bytes(own)}."
        )
        return OomVerdict(
            cause="none",
            line=line,
            reasons=tuple(reasons),
            remedies=tuple(remedies),
            unverified=unverified,
        )
    return OomVerdict(
        cause="unseen",
        line=f"No out-of-memory error is in this trace: with less than {format_bytes(own)} for "
        "PyTorch there would be one.",
        reasons=tuple(reasons),
        remedies=tuple(remedies),
        notes=(
            "A snapshot taken before the failure, or a trace whose ring lost it, looks like this. "
            "--memory SIZE shows where it would fail in less; a log's message can be explained on "
            "its own.",
        ),
        unverified=unverified,
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
