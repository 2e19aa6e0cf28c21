"""`FragmentationReporter`: every view of a run's document in one place.

Owns: which method gives which view. Leaves to others: the views, the figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvatlas.report.run_document import RunDocument

if TYPE_CHECKING:
    from rich.console import Console

    from kvatlas.events import AnyRecording

__all__ = ["FragmentationReporter"]


class FragmentationReporter:
    """Shows a run: in a terminal, as bytes, as files.

    Args:
        document: all there is to say about the run.
        recording: its events; only `perfetto` reads them.
    """

    def __init__(self, document: RunDocument, recording: AnyRecording | None = None) -> None:
        self.document, self.recording = document, recording

    def terminal(self, console: Console | None = None) -> None:
        """Print the report, on standard output by default."""
        from kvatlas.report.console import make_console
        from kvatlas.report.run_terminal import print_run

        print_run(make_console() if console is None else console, self.document)

    def json(self) -> bytes:
        """Return the report as JSON (docs/reference/report-json.md)."""
        from kvatlas.report.run_json import run_json

        return run_json(self.document)

    def html(self) -> bytes:
        """Return the report as one self-contained page."""
        from kvatlas.report.run_html import run_html

        return run_html(self.document)

    def csv(self, folder: str | Path) -> list[Path]:
        """Write series, tables, histograms and figures as CSV files. Raises: OSError."""
        from kvatlas.report.run_tables import run_csv
        from kvatlas.report.whole_files import write_folder

        return write_folder(Path(folder), run_csv(self.document))

    def parquet(self, folder: str | Path) -> list[Path]:
        """Write the same as Parquet files. Raises: OSError."""
        from kvatlas.report.run_tables import run_parquet
        from kvatlas.report.whole_files import write_folder

        return write_folder(Path(folder), run_parquet(self.document))

    def perfetto(self, path: str | Path) -> None:
        """Write a trace for the Perfetto UI, compressed when `path` ends in .gz.

        O(events), bounded memory. Raises: OSError; ValueError without a recording.
        """
        from kvatlas.report.run_perfetto import run_perfetto
        from kvatlas.report.whole_files import write_parts

        recording = self.recording
        if recording is None:
            raise ValueError("a Perfetto trace needs the recording")
        parts = run_perfetto(
            recording.header,
            recording.chunks(),
            # Known as far as the recording has been read.
            name_of=lambda request: recording.names.get(request),
            series=self.document.series,
        )
        write_parts(Path(path), parts)
