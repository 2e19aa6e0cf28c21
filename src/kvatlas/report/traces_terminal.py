"""Traces in a terminal: the list of what can be named, what was fetched, what was exported.

Owns: their look. Leaves to others: what is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvatlas.report.console import heading, two_columns
from kvatlas.report.numbers import count
from kvatlas.units import format_bytes
from kvatlas.workload.export import ExportSummary

__all__ = ["print_exported", "print_fetched", "print_list"]


def print_list(console: Console, listing: Mapping[str, Any]) -> None:
    """Print names, sizes and where a public trace was fetched to."""
    console.print()
    console.print(heading("Built in", "kvatlas replay NAME"))
    built_in = [(each["name"], "", each["summary"]) for each in listing["built_in"]]
    console.print(_table(built_in), Text(), sep="")
    console.print(heading("Public", "kvatlas traces fetch NAME, then kvatlas replay NAME"))
    public = []
    for each in listing["public"]:
        size = "" if each["size_bytes"] is None else format_bytes(each["size_bytes"])
        state = "here" if each["path"] else size
        public.append((each["name"], state, f"{each['what']} ({each['licence']})"))
    console.print(_table(public), Text(), sep="")


def print_fetched(console: Console, fetched: Mapping[str, Any]) -> None:
    """Print where a trace is and what to do with it."""
    rows = (
        ("Trace", f"{fetched['name']} ({fetched['format']}), checked"),
        ("File", str(fetched["path"])),
        ("Size", format_bytes(fetched["size_bytes"])),
        ("Next", f"kvatlas replay {fetched['name']}"),
    )
    console.print(two_columns((label, Text(text)) for label, text in rows))


def print_exported(console: Console, summary: ExportSummary) -> None:
    """Print what was written, and what a maker of the file must know."""
    covers = "prompts and answers" if summary.outputs_identified else "prompts"
    rows = [
        ("Written", summary.path),
        ("Requests", count(summary.requests)),
        (
            "Identities",
            f"{count(summary.distinct_ids)} of {summary.tokens_per_id} tokens, over {covers}",
        ),
        ("Kept", "lengths, times, which prefixes are equal, sessions, priorities, salt groups"),
        ("Not kept", "texts, token ids, names, hashes of these, the salt"),
        *(("Note", note) for note in summary.notes),
    ]
    console.print(two_columns((label, Text(text)) for label, text in rows))


def _table(rows: list[tuple[str, str, str]]) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, size, what in rows:
        table.add_row(Text(name, style="bold"), Text(size), Text(what))
    return Padding(table, (0, 0, 0, 2))
