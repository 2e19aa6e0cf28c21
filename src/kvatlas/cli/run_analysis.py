"""From a recording to the document that every view of it shows.

Owns: the order of things: measure, read the requests again, find what to change, take the frames of
the block map. Leaves to others: each of them, and the views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvatlas.cli.progress import ProgressLine
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.events import AnyRecording, Chunk
    from kvatlas.measure import Figures
    from kvatlas.measure.run import RunMeasurement
    from kvatlas.report.run_document import RunDocument, Table
    from kvatlas.workload import Workload

__all__ = ["analyse"]

_EXTERNAL = (
    "External fragmentation costs no allocation here: blocks are equal, any free one serves. "
    "Broken runs matter where blocks are copied or mapped: transfer and offload (one descriptor "
    "per run), huge pages."
)


_ONLY_REPLAYS = (
    "only a replay counts what the host tier and the policies for short memory did: "
    "kvatlas replay --json"
)


def analyse(
    recording: AnyRecording,
    *,
    what_if: bool = True,
    frames: bool = False,
    workload: Workload | None = None,
    figures: Figures | None = None,
    notes: tuple[str, ...] = (),
    tables: Mapping[str, Table] | None = None,
) -> RunDocument:
    """Measure a recorded run. O(events + block ids); three times that with frames.

    Args:
        recording: the run.
        what_if: replay the changes that findings name.
        frames: take the frames of the block map.
        workload: the requests, where they are at hand; else they are read again.
        figures: measurements that the caller has made already; they come first.
        notes: sentences that a reader must see.
        tables: what else there is to list; it comes first.

    Raises:
        InputError: the recording is damaged.
    """
    from kvatlas.cli.run_capacity import run_capacity
    from kvatlas.cli.version import version
    from kvatlas.cli.what_if import findings_of
    from kvatlas.measure.run import RunMeasurement
    from kvatlas.report.run_contents import run_histograms, run_series, run_tables
    from kvatlas.report.run_document import RunDocument

    measured = RunMeasurement(recording.header)
    for chunk in _watched(recording, "measuring"):
        measured.feed(chunk)
    partial, header = recording.partial, recording.header
    if workload is None and what_if and not partial:
        workload = _requests(recording)
    sheet = _figures(measured, figures, workload, header.config)
    findings = findings_of(sheet, header, workload=workload, partial=partial, wanted=what_if)
    capacity = None
    if workload is not None and what_if and not partial:
        capacity = run_capacity(workload, header.config, header.workload, sheet)
    single = len({group.page_size_bytes for group in header.groups}) == 1
    return RunDocument(
        title=f"{header.workload.get('name', recording.path)} on {header.engine}",
        version=version(),
        engine=header.engine,
        producer=header.producer,
        config=header.config,
        workload=header.workload,
        partial=partial,
        figures=sheet,
        series=run_series(measured),
        histograms=run_histograms(measured),
        tables={**(tables or {}), **run_tables(measured, recording.names)},
        findings=findings,
        capacity=capacity,
        frames=_frames(recording) if frames else None,
        notes=((_EXTERNAL,) if single else ()) + notes + tuple(header.workload.get("notes", ())),
    )


def _watched(recording: AnyRecording, what: str) -> Iterator[Chunk]:
    events = 0
    with ProgressLine(what, None, "events") as progress:
        for chunk in recording.resolved():
            yield chunk
            events += len(chunk.rows)
            progress.update(events)


def _requests(recording: AnyRecording) -> Workload | None:
    from kvatlas.plan import reload_workload

    found = reload_workload(recording.header)
    return None if isinstance(found, str) else found


def _figures(
    measured: RunMeasurement,
    known: Figures | None,
    workload: Workload | None,
    config: dict[str, Any],
) -> Figures:
    """Return the caller's figures, then what the events say, then the ceiling of the requests."""
    from kvatlas.measure import Figures, measure_ceiling
    from kvatlas.measure.replay import lack_tier_and_pressure, measure_final_waste
    from kvatlas.plan import Setup

    sheet = Figures()
    if known is not None:
        sheet.add(known)
    elif workload is not None:
        # A recording that says too little of its settings has no ceiling.
        with suppress(InputError):
            conditions = Setup(config).conditions()
            measure_ceiling(sheet, workload, conditions)
            measure_final_waste(sheet, workload, conditions)
    sheet.add(measured.figures())
    if known is None and config.get("host_blocks"):
        lack_tier_and_pressure(sheet, _ONLY_REPLAYS)
    return sheet


def _frames(recording: AnyRecording) -> Any:
    from kvatlas.measure.frames import take_frames

    names = recording.names
    said = [names.get(row, "") for row in range(recording.header.num_requests)] if names else ()
    return take_frames(
        recording.header, lambda: _watched(recording, "drawing the block map"), names=said
    )
