"""`kvatlas traces`: what its verbs do.

Owns: calling the workload layer, progress, and which view is written where. Leaves to others:
everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.flag_names import naming_flags
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_describe", "run_export", "run_fetch", "run_list"]

SCHEMA = 1


def run_list(json: str | None) -> None:
    """List what can be named. Raises: InputError."""
    from kvatlas.workload.fetch import TRACES, cached
    from kvatlas.workload.generators import GENERATORS

    _check(json)

    def fetched(name: str) -> str | None:
        try:
            path = cached(name)
        except InputError:  # without the extra there is no cache to look into
            return None
        return None if path is None else str(path)

    listing = {
        "schema": SCHEMA,
        "built_in": [
            {"name": generator.name, "summary": generator.summary}
            for generator in GENERATORS.values()
        ],
        "public": [
            {
                "name": trace.name,
                "what": trace.what,
                "format": trace.format,
                "licence": trace.licence,
                "source": trace.source,
                "size_bytes": trace.size_bytes,
                "path": fetched(trace.name),
            }
            for trace in TRACES.values()
        ],
    }

    def show(console: Console) -> None:
        from kvatlas.report.traces_terminal import print_list

        print_list(console, listing)

    _write(listing, json, show)


def run_fetch(name: str, json: str | None) -> None:
    """Download a public trace. Raises: InputError."""
    from kvatlas.cli.progress import ProgressLine
    from kvatlas.workload.fetch import fetch
    from kvatlas.workload.public_traces import public_trace

    _check(json)
    with ProgressLine(name, None, "bytes") as progress:
        path = fetch(name, progress=lambda file, done, total: progress.update(done, total, file))
    fetched = {
        "schema": SCHEMA,
        "name": name,
        "format": public_trace(name).format,
        "path": str(path),
        "size_bytes": _size_bytes(path),
    }

    def show(console: Console) -> None:
        from kvatlas.report.traces_terminal import print_fetched

        print_fetched(console, fetched)

    _write(fetched, json, show)


def run_describe(trace: str, json: str | None, *, block_size: int, **reading: Any) -> None:
    """Measure a trace without replaying it. Raises: InputError."""
    from kvatlas.cli.trace_source import open_workload
    from kvatlas.workload.describe import describe

    _check(json)
    with naming_flags():
        if block_size < 1:
            raise InputError("must be at least 1", field="block_size", value=block_size)
        workload = open_workload(trace, block_size=block_size, **reading)
        description = describe(workload, block_size=block_size)

    def show(console: Console) -> None:
        from kvatlas.report.describe_terminal import print_description

        print_description(console, description)

    _write({"schema": SCHEMA, **description.to_dict()}, json, show)


def run_export(file: str, out: str, json: str | None, **options: Any) -> None:
    """Write an anonymised trace. Raises: InputError."""
    from dataclasses import asdict

    from kvatlas.workload.export import export

    _check(json)
    require_writable(out, "OUT")
    if out == STDOUT:
        raise InputError("an export is written to a file", field="OUT", remedy="name a file")
    with naming_flags():
        summary = export(file, out, **options)

    def show(console: Console) -> None:
        from kvatlas.report.traces_terminal import print_exported

        print_exported(console, summary)

    _write({"schema": SCHEMA, **asdict(summary)}, json, show)


def _check(json: str | None) -> None:
    if json is not None:
        require_writable(json, "--json")


def _write(value: dict[str, Any], json: str | None, show: Callable[[Console], None]) -> None:
    if json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(json, json_bytes(value), "--json")
    if json != STDOUT:
        from kvatlas.report.console import make_console

        show(make_console())


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
