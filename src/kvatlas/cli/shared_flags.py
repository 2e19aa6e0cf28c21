"""Flags that several verbs share, so that they read the same everywhere.

Owns: their names, help and group. Leaves to others: defaults and meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

__all__ = [
    "OUTPUT",
    "Format",
    "IdentityTokens",
    "Json",
    "LastBlock",
    "Limit",
    "Seed",
    "Sort",
    "TokensPerId",
    "option",
    "switch",
]

OUTPUT = "Output"
"""The group of the flags that say what is written where."""

_READING = "Reading the trace"


def option(
    *names: str,
    help: str,
    panel: str,
    metavar: str | None = None,
    parser: Callable[[str], Any] | None = None,
) -> Any:
    """Declare a flag that takes a value, which `parser` reads where its type does not say how."""
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar, parser=parser)


def switch(name: str, *, on: bool, help: str, panel: str) -> Any:
    """Declare a flag that is on or off, with a name for either."""
    default = "on" if on else "off"
    return typer.Option(
        f"--{name}/--no-{name}", help=help, rich_help_panel=panel, show_default=default
    )


Format = Annotated[
    str | None,
    option("--format", help="Force a format that is not detected.", panel=_READING, metavar="NAME"),
]
Limit = Annotated[
    int | None, option("--limit", help="The first N requests only.", panel=_READING, metavar="N")
]
Seed = Annotated[
    int | None,
    option(
        "--seed",
        help="Seed of a built-in workload, or of the times at which recorded sessions start.",
        panel=_READING,
        metavar="N",
    ),
]
Sort = Annotated[
    bool,
    option(
        "--sort",
        help="Order requests by arrival instead of refusing a disorderly file.",
        panel=_READING,
    ),
]
LastBlock = Annotated[
    str | None,
    option(
        "--last-block",
        help="Whether a prompt's partial last block has a hash id.",
        panel=_READING,
        metavar="[kept|dropped|either]",
    ),
]
TokensPerId = Annotated[
    int | None,
    option("--tokens-per-id", help="Tokens per hash id.", panel=_READING, metavar="TOKENS"),
]
IdentityTokens = Annotated[
    int | None,
    option(
        "--identity-tokens",
        help="Tokens per block that token ids are cut into: the engine's by default.",
        panel=_READING,
        metavar="TOKENS",
    ),
]
Json = Annotated[
    str | None,
    option(
        "--json",
        help="Write the report as JSON; - for standard output.",
        panel=OUTPUT,
        metavar="PATH",
    ),
]
