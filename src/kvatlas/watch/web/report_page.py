"""The report of an engine as it is now: verdict, why tokens were missed, course, all facts.

Owns: making the report's document of a board, and the policy that its page is shown under. Leaves
to others: measuring, rules (`kvatlas.plan`), the page (`kvatlas.report`).
"""

from __future__ import annotations

import kvatlas
from kvatlas.plan import verdict
from kvatlas.report.run_contents import run_histograms, run_series, run_tables
from kvatlas.report.run_document import RunDocument
from kvatlas.report.run_html import run_html
from kvatlas.watch.board import Board

__all__ = ["REPORT_POLICY", "report_html"]

REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'"
)
"""A report holds its own style and scripts. It runs as a stranger here: without our cookie, our
addresses, or any other place to send something to."""

_NO_CHANGES = "a live page replays nothing, kvatlas report does"


def report_html(board: Board) -> bytes:
    """Return the report of all events so far; O(requests log requests + keys + blocks)."""
    header, sheet, health = board.header, board.figures(), board.health()
    measured = board.measured
    when = f"so far: after {board.events:,} events, at {board.time_s:,.1f} s of the engine's clock"
    document = RunDocument(
        title=f"{board.feed.label} on {header.engine}",
        version=kvatlas.__version__,
        engine=header.engine,
        producer=header.producer,
        config=header.config,
        workload=header.workload,
        partial=health.fault or health.partial,
        figures=sheet,
        series=run_series(measured),
        histograms=run_histograms(measured),
        tables=run_tables(measured, dict(board.feed.names)),
        findings=verdict(sheet, header.config, header.workload, _NO_CHANGES),
        notes=(when, *header.workload.get("notes", ())),
    )
    return run_html(document)
