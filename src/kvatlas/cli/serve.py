"""`kvatlas serve`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`serve_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.shared_flags import OUTPUT, option, switch

__all__ = ["serve"]

_WHERE, _PLAY = "Where", "A finished recording"


def serve(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A folder that a vLLM server records into (KVATLAS_RECORD), now or later, or a "
            "finished recording.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        option(
            "--host",
            help="The address to listen on. Anything but this machine's own needs the token.",
            panel=_WHERE,
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        option("--port", help="The port; 0 takes a free one.", panel=_WHERE, metavar="PORT"),
    ] = 8480,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="KVATLAS_TOKEN",
            show_envvar=True,
            help="The token that visitors and scrapers must show. Made and printed where one is "
            "needed and none is given. Better in the environment: others see a command line.",
            rich_help_panel=_WHERE,
            metavar="TOKEN",
        ),
    ] = None,
    open_page: Annotated[
        bool,
        switch("open", on=True, help="Open the page in a browser, if there is one.", panel=_WHERE),
    ] = True,
    speed: Annotated[
        float | None,
        option(
            "--speed",
            help="Play what is recorded at X times its own clock, a folder too; 0 goes to the end "
            "at once. A file is played at 1, a folder is followed.",
            panel=_PLAY,
            metavar="X",
        ),
    ] = None,
    otlp: Annotated[
        str | None,
        option(
            "--otlp",
            help="Send the metrics to an OpenTelemetry collector, too, every 10 s, such as "
            "http://127.0.0.1:4318 (OTLP over HTTP, JSON).",
            panel=OUTPUT,
            metavar="URL",
        ),
    ] = None,
    grafana: Annotated[
        str | None,
        option(
            "--grafana",
            help="Write the Grafana dashboard as JSON and end; - for standard output.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Show live servers, or a finished recording, in the browser and to Prometheus."""
    from kvatlas.cli.serve_run import ServeFlags, run_serve

    run_serve(ServeFlags(run, host, port, token, open_page, speed, otlp, grafana))
