"""`kvatlas report`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`report_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import OUTPUT, Json, option, switch

__all__ = ["report"]


def report(
    run: Annotated[
        str, typer.Argument(help="A recording, such as `kvatlas replay --events RUN` writes.")
    ],
    what_if: Annotated[
        bool,
        switch(
            "what-if",
            on=True,
            help="Replay each change that a finding names, so that its effect is measured.",
            panel="Findings",
        ),
    ] = True,
    json: Json = None,
    html: Annotated[
        str | None,
        option("--html", help="Write the report as one HTML page.", panel=OUTPUT, metavar="PATH"),
    ] = None,
    csv: Annotated[
        str | None,
        option(
            "--csv",
            help="Write series, tables and histograms as CSV files.",
            panel=OUTPUT,
            metavar="DIR",
        ),
    ] = None,
    parquet: Annotated[
        str | None,
        option("--parquet", help="The same as Parquet files.", panel=OUTPUT, metavar="DIR"),
    ] = None,
    perfetto: Annotated[
        str | None,
        option(
            "--perfetto",
            help="Write a trace that ui.perfetto.dev opens; .gz compresses it.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Say what happened to memory in a recorded run, what to change, and what that would do."""
    from kvatlas.cli.report_run import ReportFlags, run_report

    raise typer.Exit(run_report(ReportFlags(run, what_if, json, html, csv, parquet, perfetto)))
