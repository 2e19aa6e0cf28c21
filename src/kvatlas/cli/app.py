"""The app: its verbs and the flags that all of them share.

Owns: what is registered under which name. A new verb is one file and one line here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli import (
    bench,
    budget,
    curve,
    device,
    diff,
    map,
    oom,
    policies,
    record,
    replay,
    report,
    serve,
    top,
    traces,
    verify,
)
from kvatlas.cli.help import GroupedCommand

__all__ = ["app"]

app = typer.Typer(
    name="kvatlas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_command = app.command("replay", cls=GroupedCommand, short_help="Replay a trace through the twin.")
_command(replay.replay)
for _name, _verb, _short_help in (
    ("report", report.report, "Say what happened to memory in a recorded run."),
    ("map", map.map_blocks, "Show every block at one moment of a recorded run."),
    ("record", record.record, "Run vLLM and record its KV-cache memory."),
    ("top", top.top, "Watch a live server's memory in the terminal."),
    ("serve", serve.serve, "Show live servers in the browser and to Prometheus."),
    ("verify", verify.verify, "Hold a recorded server against the twin, call by call."),
    ("diff", diff.diff, "Compare two recorded runs."),
    ("curve", curve.curve, "Say how much KV memory a trace needs."),
    ("policies", policies.policies, "Compare eviction policies on a trace."),
    ("budget", budget.budget, "Say where a server's memory goes, before it starts."),
    ("oom", oom.oom, "Explain an out-of-memory error, from a log or a snapshot."),
):
    app.command(_name, cls=GroupedCommand, short_help=_short_help)(_verb)
app.add_typer(bench.app, name="bench")
app.add_typer(device.app, name="device")
app.add_typer(traces.app, name="traces")


def _print_version(wanted: bool) -> None:
    if wanted:
        from kvatlas.cli.version import version

        typer.echo(f"kvatlas {version()}")
        raise typer.Exit


@app.callback()
def _kvatlas(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """See, replay and plan the KV-cache memory of LLM servers."""
