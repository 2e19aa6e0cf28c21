"""Draw the screen of `kvatlas top` as an SVG picture: `python docs/draw_top.py OUT`.

Replays a chat workload on a pool that is too small for it, plays the recording to its middle, and
keeps what a terminal of 80 columns by 24 lines shows there, colours included. The picture refers to
no font or script outside itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from kvatlas.events import open_recording
from kvatlas.watch.board import Board
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.top.areas import Look
from kvatlas.watch.top.drawing import cells_wanted, draw

COLUMNS, LINES = 80, 24
ARGUMENTS = ("--blocks", "3000", "--arrivals", "timed")
MIDDLE = 0.5


def main() -> None:
    """Record, play and draw."""
    (target,) = sys.argv[1:]
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run.parquet"
        replay = [sys.executable, "-m", "kvatlas.cli", "replay", *ARGUMENTS, "--events", str(run)]
        subprocess.run(replay, check=True, stdout=subprocess.DEVNULL)
        feed = FileFeed(open_recording(str(run)))
        feed.pause()
        feed.poll(1)
        feed.seek(MIDDLE * feed.playback().last_s)
        board = Board(feed)
        while board.advance():
            pass
        look = Look(playable=True)
        lines = draw(board.moment(cells_wanted(look, COLUMNS, LINES)), look, COLUMNS, LINES)
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text("\n").join(lines))
    svg = console.export_svg(title="kvatlas top", theme=DIMMED_MONOKAI, unique_id="top")
    # rich names a font on a public server; a reader's own monospace font does as well.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = "\n".join(line.rstrip() for line in svg.splitlines())
    Path(target).write_text(svg + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
