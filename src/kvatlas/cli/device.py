"""`kvatlas device`: the device allocator below the KV cache, from memory snapshots.

Owns: its verbs. Leaves to others: each of them (`device_*`).
"""

from __future__ import annotations

import typer

from kvatlas.cli.device_capture import device_capture
from kvatlas.cli.device_diff import device_diff
from kvatlas.cli.device_lint import device_lint
from kvatlas.cli.device_report import device_report
from kvatlas.cli.device_what_if import device_what_if
from kvatlas.cli.help import GroupedCommand

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look below the KV cache: memory snapshots of PyTorch's allocator.",
)


@app.callback()
def _device() -> None:
    """Look below the KV cache: memory snapshots of PyTorch's allocator."""


for _name, _verb, _short_help in (
    ("report", device_report, "Show what was where, when, and by whom."),
    ("what-if", device_what_if, "Run a snapshot's requests under other settings."),
    ("diff", device_diff, "Compare two snapshots, and fail where memory grew."),
    ("lint", device_lint, "Say what allocator settings do not do."),
    ("capture", device_capture, "Snapshot the device memory of a server."),
):
    app.command(_name, cls=GroupedCommand, short_help=_short_help)(_verb)
