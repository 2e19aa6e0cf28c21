"""`kvatlas traces`: list, fetch, describe, export; the flags.

Owns: names, defaults and help. Leaves to others: what happens (`traces_run`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, fetch, describe and anonymise traces.",
)

_Json = Annotated[
    str | None,
    typer.Option("--json", metavar="PATH", help="Write it as JSON; - for standard output."),
]
_READING = "Reading the trace"


def _reading(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=_READING)


@app.command("list", short_help="List what can be named.")
def list_traces(json: _Json = None) -> None:
    """List the built-in workloads and the public traces that can be fetched."""
    from kvatlas.cli.traces_run import run_list

    run_list(json)


@app.command("fetch", short_help="Download a public trace.")
def fetch_trace(
    name: Annotated[str, typer.Argument(help="A name that `kvatlas traces list` shows.")],
    json: _Json = None,
) -> None:
    """Download a public trace into the cache, checked; an interrupted one goes on where it was."""
    from kvatlas.cli.traces_run import run_fetch

    run_fetch(name, json)


@app.command("describe", short_help="Lengths, sharing, sessions, arrivals.")
def describe_trace(
    trace: Annotated[
        str, typer.Argument(help="A trace file, a directory of sessions, or a workload's name.")
    ],
    block_size: Annotated[
        int,
        typer.Option("--block-size", metavar="TOKENS", help="Tokens per block, for the sharing."),
    ] = 16,
    format: Annotated[
        str | None, _reading("--format", metavar="NAME", help="Force a format.")
    ] = None,
    limit: Annotated[
        int | None, _reading("--limit", metavar="N", help="The first N requests only.")
    ] = None,
    seed: Annotated[
        int | None,
        _reading("--seed", metavar="N", help="Seed of a built-in workload, or of session starts."),
    ] = None,
    sort: Annotated[
        bool, _reading("--sort", help="Order requests by arrival instead of refusing.")
    ] = False,
    last_block: Annotated[
        str | None,
        _reading(
            "--last-block",
            metavar="[kept|dropped|either]",
            help="Whether a prompt's partial last block has a hash id.",
        ),
    ] = None,
    tokens_per_id: Annotated[
        int | None, _reading("--tokens-per-id", metavar="TOKENS", help="Tokens per hash id.")
    ] = None,
    identity_tokens: Annotated[
        int | None,
        _reading(
            "--identity-tokens",
            metavar="TOKENS",
            help="Tokens per block that token ids are cut into: --block-size by default.",
        ),
    ] = None,
    json: _Json = None,
) -> None:
    """Describe a trace: lengths, sharing, sessions, arrivals."""
    from kvatlas.cli.traces_run import run_describe

    run_describe(
        trace,
        json,
        block_size=block_size,
        format=format,
        limit=limit,
        seed=seed,
        sort=sort,
        last_block=last_block,
        tokens_per_id=tokens_per_id,
        identity_tokens=identity_tokens,
    )


@app.command("export", short_help="Write an anonymised trace.")
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
    json: _Json = None,
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
