"""The recorded fixtures: small recordings of the real vLLM, each whole in its own way."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.zip"))


def files_of(name: str) -> dict[str, bytes]:
    """Return a fixture's files: their names and what is in them."""
    with ZipFile(FIXTURES / f"{name}.zip") as kept:
        return {entry: kept.read(entry) for entry in sorted(kept.namelist())}


def write(files: dict[str, bytes], folder: Path) -> Path:
    """Let a folder hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if old.name not in files:
            old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
