"""What the verbs of `kvatlas device` read: the flags they share, a snapshot, its twin.

Owns: those flags, errors that name them. Leaves to others: reading and replaying
(`kvatlas.device`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from kvatlas.cli.progress import reading_line
from kvatlas.cli.shared_flags import option
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.device import DeviceSnapshot, DeviceTwin
    from kvatlas.device.results import Start as TwinStart

__all__ = ["SNAPSHOT_PANEL", "Device", "Start", "open_snapshot", "open_twin", "parse_start"]

SNAPSHOT_PANEL = "Snapshot"
_STARTS = ("recorded", "rebuilt")

Device = Annotated[
    int | None,
    option(
        "--device",
        help="Which of the snapshot's devices; may be left out where only one has a trace.",
        panel=SNAPSHOT_PANEL,
        metavar="N",
    ),
]
Start = Annotated[
    str | None,
    option(
        "--start",
        help="Begin with the segments that were there, or with the blocks in them allocated anew, "
        "which is fair to every setting and the default.",
        panel=SNAPSHOT_PANEL,
        metavar="[recorded|rebuilt]",
    ),
]


def open_snapshot(path: str) -> DeviceSnapshot:
    """Return the snapshot in a file. Raises: InputError naming it."""
    from kvatlas.device import read_snapshot

    with reading_line(path, "Reading the snapshot") as line:
        return read_snapshot(path, on_read=line.update)


def open_twin(path: str, device: int | None = None, *, flag: str = "--device") -> DeviceTwin:
    """Return the twin of a snapshot's device. Raises: InputError naming the file or the flag."""
    from kvatlas.device import DeviceTwin

    snapshot = open_snapshot(path)
    try:
        return DeviceTwin(snapshot, device)
    except InputError as error:
        error.file = error.file or path
        if error.field == "device":
            error.field = flag
        raise


def parse_start(text: str | None) -> TwinStart | None:
    """Return a beginning, None where none was named. Raises: InputError."""
    if text is not None and text not in _STARTS:
        raise InputError(
            "no such beginning", field="--start", value=text, remedy=f"use {' or '.join(_STARTS)}"
        )
    return cast("TwinStart | None", text)
