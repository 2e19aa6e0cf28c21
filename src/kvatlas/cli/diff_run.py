"""`kvatlas diff`: what it does.

Owns: reading both runs, what is compared, which view is written where. Leaves to others: figures
(`run_analysis`), changes (`kvatlas.measure.diff`), views.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.report_run import INTERRUPTED

if TYPE_CHECKING:
    from kvatlas.events import AnyRecording, Header
    from kvatlas.measure.outcomes import Outcomes
    from kvatlas.report.diff_document import DiffDocument

__all__ = ["run_diff"]


def run_diff(run_a: str, run_b: str, json: str | None, *, all_figures: bool = False) -> int:
    """Compare two recordings, write and print it, return the exit code. Raises: InputError."""
    if json is not None:
        require_writable(json, "--json", run_a)
        require_writable(json, "--json", run_b)
    from kvatlas.events import open_recording

    try:
        # Both are opened before the work on either begins.
        recordings = open_recording(run_a), open_recording(run_b)
        document = _compared(*recordings)
    except KeyboardInterrupt:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    if json is not None:
        from kvatlas.report.diff_json import diff_json

        write_output(json, diff_json(document), "--json")
    if json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.diff_terminal import print_diff

        print_diff(make_console(), document, all_figures=all_figures)
    return 0


def _compared(a: AnyRecording, b: AnyRecording) -> DiffDocument:
    from kvatlas.cli.run_analysis import analyse
    from kvatlas.cli.version import version
    from kvatlas.measure.diff import changed_figures, changed_settings, why_not_comparable
    from kvatlas.measure.request_changes import changed_requests, size_classes
    from kvatlas.report.diff_document import DiffDocument, Side

    documents = [analyse(each, what_if=False, frames=False) for each in (a, b)]
    before, after = _outcomes(a), _outcomes(b)
    sides = [
        Side(run.path, document.title, run.partial, dict(run.names))
        for run, document in zip((a, b), documents, strict=True)
    ]
    figures = changed_figures(documents[0].figures, documents[1].figures)
    known = {
        name
        for document in documents
        for name, value in document.figures.values.items()
        if value is not None
    }
    reason = why_not_comparable(a.header, b.header, before, after)
    timed = _is_timed(a.header) and _is_timed(b.header)
    return DiffDocument(
        version=version(),
        before=sides[0],
        after=sides[1],
        not_comparable=reason,
        settings=changed_settings(a.header, b.header),
        figures=tuple(figures),
        figures_same=len(known) - len(figures),
        requests=() if reason else tuple(changed_requests(before, after, timed=timed)),
        sizes=() if reason else tuple(size_classes(before, after, timed=timed)),
        notes=tuple(_notes(timed, reason)),
    )


def _outcomes(recording: AnyRecording) -> Outcomes:
    from kvatlas.measure.outcomes import OutcomeCollector

    collector = OutcomeCollector(recording.header)
    for chunk in recording.chunks():
        collector.feed(chunk)
    return collector.result()


def _is_timed(header: Header) -> bool:
    """Return whether requests came at times of their own: always in a live run."""
    return header.producer != "replay" or header.config.get("arrivals") == "timed"


def _notes(timed: bool, reason: str) -> list[str]:
    if timed or reason:
        return []
    return [
        "a backlog is refilled as it empties: when a request joins it is no fact about the "
        "request, so queue times are not compared"
    ]
