"""A folder of recordings: which engines' there are, and what their headers say.

Owns: finding engines, reading a header. Leaves to others: their events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kvatlas.errors import InputError
from kvatlas.events.header import Header, decode_header

__all__ = ["EngineFacts", "engine_folder", "engine_folders", "read_facts"]

HEADER_FILE = "header.json"
_MOST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a recording says of its engine, beside its header.

    Attributes:
        header: as of any recording; its requests are those known when it was read.
        live: version, process, start, statuses, what of it the twin does not model.
    """

    header: Header
    live: dict[str, Any] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[str, int]:
        """vLLM's names of a request's status, with their numbers."""
        said = self.live.get("statuses", {})
        if not isinstance(said, dict):
            return {}
        return {str(name): value for name, value in said.items() if isinstance(value, int)}

    @property
    def sample(self) -> float:
        """The share of steps recorded."""
        value = self.live.get("sample", 1.0)
        return float(value) if isinstance(value, int | float) else 1.0


def engine_folders(path: Path) -> list[Path]:
    """Return the engines' folders in `path`, oldest first; `path` itself when it is one."""
    if (path / HEADER_FILE).is_file():
        return [path]
    try:
        entries = [entry for entry in path.iterdir() if (entry / HEADER_FILE).is_file()]
    except OSError:
        return []
    # The name says rank, then start: the start orders restarts.
    return sorted(entries, key=lambda entry: (entry.name.split("-", 2)[2:], entry.name))


def engine_folder(path: str) -> Path:
    """Return the one engine's folder that `path` is or holds.

    Raises: InputError naming the engines when there are several, or saying that there is none.
    """
    folders = engine_folders(Path(path))
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise InputError(
            "no recording of an engine in this folder", file=path,
            remedy="record one with: kvatlas record DIR -- vllm serve MODEL",
        )  # fmt: skip
    names = ", ".join(folder.name for folder in folders[:4])
    more = "" if len(folders) <= 4 else f" and {len(folders) - 4} more"
    raise InputError(
        f"holds the recordings of {len(folders)} engines", file=path,
        remedy=f"name one of its folders: {names}{more}",
    )  # fmt: skip


def read_facts(folder: Path) -> EngineFacts:
    """Read an engine's header. Raises: InputError."""
    path = folder / HEADER_FILE
    try:
        if path.exists() and not path.is_file():
            raise InputError("its header is no file", file=path)
        if path.stat().st_size > _MOST_HEADER_BYTES:
            raise InputError("its header is too large to be one", file=path)
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{error.strerror}", file=path, remedy="name a recording") from error
    header = decode_header(data, str(path))
    try:
        live = msgspec.json.decode(data).get("live", {})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("its header is damaged", file=path, field="header") from error
    if not isinstance(live, dict):
        raise InputError("its header is damaged", file=path, field="live")
    return EngineFacts(header, live)
