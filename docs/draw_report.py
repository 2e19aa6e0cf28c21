"""Draw the beginning of a terminal report as an SVG picture: `python docs/draw_report.py OUT`.

Records `kvatlas replay` with the given arguments (by default a chat workload on a pool that is too
small for it) and keeps what `kvatlas report` prints in a terminal of 84 columns, colours included,
up to the details. The picture refers to no font or script outside itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

COLUMNS = 84
DEFAULT_ARGUMENTS = ("--blocks", "3000", "--arrivals", "timed")
RECORDING = "run.parquet"
FIRST_DETAIL = "Prefix cache"


def main() -> None:
    """Run the commands and write the picture."""
    target, *arguments = sys.argv[1:]
    terminal = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}

    def kvatlas(*words: str) -> str:
        command = [sys.executable, "-m", "kvatlas.cli", *words]
        done = subprocess.run(
            command, cwd=folder, env=terminal, check=True, capture_output=True, text=True
        )
        return done.stdout

    with TemporaryDirectory() as folder:
        kvatlas("replay", *(arguments or DEFAULT_ARGUMENTS), "--events", RECORDING)
        lines = Text.from_ansi(kvatlas("report", RECORDING).strip("\n")).split("\n")
    stop = next(at for at, line in enumerate(lines) if line.plain.startswith(FIRST_DETAIL))
    shown = Text("\n").join(lines[:stop])
    shown.rstrip()
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(shown)
    svg = console.export_svg(
        title=f"kvatlas report {RECORDING}", theme=DIMMED_MONOKAI, unique_id="report"
    )
    # rich names a font on a public server; a reader's own monospace font does as well.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = "\n".join(line.rstrip() for line in svg.splitlines())
    Path(target).write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
