"""Recordings of the real vLLM for tests of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

FIXTURES = Path(__file__).parents[1] / "live_parts" / "fixtures"


def recording(name: str, folder: Path) -> Path:
    """Let a new `folder` hold a recorded fixture; return it."""
    with ZipFile(FIXTURES / f"{name}.zip") as kept:
        kept.extractall(folder)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    """Let the recording say other settings."""
    path = folder / "header.json"
    header = json.loads(path.read_text())
    header["config"].update(changes)
    path.write_text(json.dumps(header))
