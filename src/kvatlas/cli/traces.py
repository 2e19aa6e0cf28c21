"""`kvatlas traces`: list, fetch, describe, export; the flags.

Owns: names, defaults and help. Leaves to others: what happens (`traces_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.help import GroupedCommand
from kvatlas.cli.reading_flags import ReadingFlags
from kvatlas.cli.shared_flags import Json
from kvatlas.cli.taking import takes

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, fetch, describe and anonymise traces.",
)


@app.command("list", cls=GroupedCommand, short_help="List what can be named.")
def list_traces(json: Json = None) -> None:
    """List the built-in workloads and the public traces that can be fetched."""
    from kvatlas.cli.traces_run import run_list

    run_list(json)


@app.command("fetch", cls=GroupedCommand, short_help="Download a public trace.")
def fetch_trace(
    name: Annotated[str, typer.Argument(help="A name that `kvatlas traces list` shows.")],
    json: Json = None,
) -> None:
    """Download a public trace into the cache, checked; an interrupted one goes on where it was."""
    from kvatlas.cli.traces_run import run_fetch

    run_fetch(name, json)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeFlags(ReadingFlags):
    """What `kvatlas traces describe` takes."""

    trace: Annotated[
        str, typer.Argument(help="A trace file, a directory of sessions, or a workload's name.")
    ]
    block_size: Annotated[
        int,
        typer.Option("--block-size", metavar="TOKENS", help="Tokens per block, for the sharing."),
    ] = 16
    json: Json = None


@app.command("describe", cls=GroupedCommand, short_help="Lengths, sharing, sessions, arrivals.")
@takes(DescribeFlags)
def describe_trace(flags: DescribeFlags) -> None:
    """Describe a trace: lengths, sharing, sessions, arrivals."""
    from kvatlas.cli.traces_run import run_describe

    run_describe(flags.trace, flags.json, block_size=flags.block_size, **flags.reading())


@app.command("export", cls=GroupedCommand, short_help="Write an anonymised trace.")
def export_trace(
    file: Annotated[
        str, typer.Argument(help="A log of prompts or token ids (JSONL), or any trace.")
    ],
    out: Annotated[str, typer.Argument(help="The JSONL file to write; .gz compresses it.")],
    salt: Annotated[
        str | None,
        typer.Option(
            "--salt",
            metavar="TEXT",
            help="Key of the hashes, never written; a random one by default.",
        ),
    ] = None,
    tokens_per_id: Annotated[
        int,
        typer.Option(
            "--tokens-per-id", metavar="TOKENS", help="Tokens per hash id, where there are prompts."
        ),
    ] = 16,
    time_resolution_ms: Annotated[
        float,
        typer.Option("--time-resolution-ms", metavar="MS", help="What arrivals are rounded to."),
    ] = 0.001,
    json: Json = None,
) -> None:
    """Write a trace that can be shared: lengths, times and which prefixes are equal; no text."""
    from kvatlas.cli.traces_run import run_export

    run_export(
        file,
        out,
        json,
        salt=salt,
        tokens_per_id=tokens_per_id,
        time_resolution_ms=time_resolution_ms,
    )
