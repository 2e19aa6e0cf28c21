"""Draw a terminal report as an SVG picture: `python docs/draw_report.py OUT [ARGUMENT...]`.

Runs `kvatlas replay` with the given arguments in a terminal of 84 columns and keeps what it prints,
colours included. The picture refers to no font or script outside itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

COLUMNS = 84
DEFAULT_ARGUMENTS = ("--blocks", "3000", "--arrivals", "timed")


def main() -> None:
    """Run the command and write the picture."""
    target, *arguments = sys.argv[1:]
    arguments = arguments or list(DEFAULT_ARGUMENTS)
    command = [sys.executable, "-m", "kvatlas.cli", "replay", *arguments]
    terminal = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    subprocess.run(
        command, env=terminal, check=True, capture_output=True
    )  # kernels are on disk now
    done = subprocess.run(command, env=terminal, check=True, capture_output=True, text=True)
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(done.stdout.strip("\n")))
    svg = console.export_svg(
        title=" ".join(["kvatlas replay", *arguments]), theme=DIMMED_MONOKAI, unique_id="report"
    )
    # rich names a font on a public server; a reader's own monospace font does as well.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = "\n".join(line.rstrip() for line in svg.splitlines())
    Path(target).write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
