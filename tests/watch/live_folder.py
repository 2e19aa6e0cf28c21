"""An engine that records, as its folder shows it: a real recording, committed bit by bit."""

from __future__ import annotations

import json
import os
import platform
import struct
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from kvatlas.wire.segment_log import AT_CLOSED, AT_LOST, AT_WORDS, SUFFIX

FIXTURES = Path(__file__).parents[1] / "live_parts" / "fixtures"


class RecordingEngine:
    """Puts a recording of the real vLLM into `watched`, of which `commit` says how much is there.

    Args:
        watched: the folder that a server records into.
        fixture: which recording.
        number: tells restarts apart, in the order of their starts.
        pid: of the engine, this process by default.
    """

    def __init__(
        self, watched: Path, fixture: str = "full", number: int = 0, pid: int | None = None
    ) -> None:
        watched.mkdir(parents=True, exist_ok=True)
        self.pid = os.getpid() if pid is None else pid
        self.folder = watched / f"engine-0-20261121T1200{number:02d}-{self.pid}"
        hidden = watched / f".{self.folder.name}"
        with ZipFile(FIXTURES / f"{fixture}.zip") as recorded:
            recorded.extractall(hidden)
        header = next(hidden.rglob("header.json"))
        facts: dict[str, Any] = json.loads(header.read_text())
        facts["live"] |= {
            "pid": self.pid,
            "host": platform.node(),
            "started_unix_s": time.time(),
        }
        header.write_text(json.dumps(facts))
        segments = sorted(header.parent.glob(f"*{SUFFIX}"))
        assert len(segments) == 1
        self._words, self._closed = (_number(segments[0], at) for at in (AT_WORDS, AT_CLOSED))
        _put(segments[0], AT_WORDS, 0)
        _put(segments[0], AT_CLOSED, 0)
        header.parent.rename(self.folder)
        self._segment = self.folder / segments[0].name

    def commit(self, share: float) -> None:
        """Let so much of the recording be there."""
        _put(self._segment, AT_WORDS, int(share * self._words))

    def lose(self, records: int) -> None:
        """Let the disk be full: so many records were lost so far."""
        _put(self._segment, AT_LOST, records)

    def close(self) -> None:
        """Let all of it be there and the engine have ended properly."""
        self.commit(1.0)
        _put(self._segment, AT_CLOSED, 1)


def _number(segment: Path, at: int) -> int:
    (number,) = struct.unpack_from("<Q", segment.read_bytes(), 8 * at)
    return int(number)


def _put(segment: Path, at: int, number: int) -> None:
    with segment.open("r+b") as file:
        file.seek(8 * at)
        file.write(struct.pack("<Q", number))
