"""Help texts in plain, full-width groups.

Owns: how `--help` of a verb with many flags looks: every flag's whole name, under the heading of
its group. Plain text, because Rich's boxes cut long names short at 80 columns and take a tenth of a
second to import.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["GroupedCommand"]


class GroupedCommand(TyperCommand):
    """A command that lists its flags by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups in the order in which their first flag was declared."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            default = "Arguments" if param.param_type_name == "argument" else "Options"
            group = getattr(param, "rich_help_panel", None) or default
            # Some versions of typer escape brackets for Rich even where Rich is off.
            groups.setdefault(group, []).append((record[0], record[1].replace("\\[", "[")))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
