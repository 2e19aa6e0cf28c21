"""Why a recorded request failed, and the one settings change under which it does not.

Owns: which failure of a snapshot is meant, in how much memory, and the order of the work. Leaves
to others: the scene (`scene`), the settings' runs (`kvatlas.device.survival`), the verdicts
(`scene_verdict`, `unseen_verdict`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvatlas.budget.startup_log import StartupLog
from kvatlas.device import DeviceTwin
from kvatlas.device.survival import CANDIDATES, survivals
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message import OomMessage
from kvatlas.oom.scene import (
    Scene,
    failures_in,
    recorded_scene,
    replayed_scene,
    segment_bytes,
)
from kvatlas.oom.scene_verdict import scene_verdict
from kvatlas.oom.settings_table import SettingOutcome, outcome
from kvatlas.oom.unseen_verdict import unseen_verdict
from kvatlas.oom.verdict import OomVerdict

__all__ = ["SnapshotExplanation", "explain_snapshot"]


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
    startup: StartupLog | None = None,
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
        startup: what the server said when it started.
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
    reserved = scene.reserved_bytes if scene is not None else own
    rows: list[SettingOutcome] = []
    for at, one in enumerate(survivals(twin, tried)):
        rows.append(
            outcome(
                twin,
                one,
                capacity_bytes=own if capacity is None else capacity,
                reserved_bytes=reserved,
                block=block,
            )
        )
        if on_done is not None:
            on_done(at + 1, len(tried))
        if stop():
            break
    rows.sort(key=lambda row: row.needs_bytes)
    if scene is None:
        verdict = unseen_verdict(
            twin, capacity=capacity, own=own, rows=tuple(rows), order=candidates
        )
    else:
        verdict = scene_verdict(
            twin,
            scene,
            capacity=capacity or 0,
            own=own,
            rows=tuple(rows),
            order=candidates,
            message=message,
            block=block,
            startup=startup,
        )
    return SnapshotExplanation(
        device=twin.device,
        events=len(twin.trace),
        settings=recorded_text,
        scene=scene,
        capacity_bytes=capacity,
        survival_bytes=own,
        settings_rows=tuple(rows),
        untried=len(tried) - len(rows),
        verdict=verdict,
    )


def _scene(twin: DeviceTwin, capacity: int | None, message: OomMessage | None) -> Scene | None:
    """Return the failure to explain: in the given memory, or the recorded one that is meant."""
    if capacity is not None:
        return replayed_scene(twin, capacity)
    events = failures_in(twin.trace)
    if not events:
        return None
    chosen = events[-1]  # the one that nobody survived, as a rule
    if message is not None:
        chosen = min(reversed(events), key=lambda event: _distance(twin, event, message))
    return recorded_scene(twin, chosen)


def _distance(twin: DeviceTwin, event: int, message: OomMessage) -> int:
    """Return how far a recorded failure's request and free memory are from a message's."""
    needed = segment_bytes(int(twin.trace.nbytes[event]), twin.settings)
    free = int(twin.trace.address[event])
    return abs(needed - message.asked_bytes) + abs(free - message.free_bytes)


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
