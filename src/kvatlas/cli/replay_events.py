"""Recording a replay: where its events go, with and without `--events`.

Owns: the file, named by the user or temporary, and what its header says. Leaves to others: writing
(`kvatlas.events`), what `config` and `workload` say (`replay_summary`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kvatlas.cli.replay_flags import ReplayFlags

if TYPE_CHECKING:
    from kvatlas.cli.engines import EngineChoice
    from kvatlas.engine.replay import Replay
    from kvatlas.events import Chunk, EventWriter

__all__ = ["EventFile", "event_file"]


class EventFile:
    """A recording in the making.

    Attributes:
        path: where it is.
        kept: whether the user asked for it.
    """

    def __init__(self, path: str, kept: bool) -> None:
        self.path, self.kept = path, kept
        self._writer: EventWriter | None = None

    def open(
        self,
        replay: Replay,
        choice: EngineChoice,
        config: dict[str, Any],
        workload: dict[str, Any],
    ) -> None:
        """Begin the file and listen to `replay`. Raises: InputError when it cannot be written."""
        from kvatlas.cli.version import version
        from kvatlas.engine.recorded import recording_header
        from kvatlas.events import EventWriter

        header = recording_header(
            replay, version=version(), engine=choice.title, config=config, workload=workload
        )
        self._writer = EventWriter(self.path, header, sessions=replay.workload.session)
        replay.listen(self._writer.append)

    def append(self, chunk: Chunk) -> None:
        """Write a chunk of the replay that was opened."""
        if self._writer is not None:
            self._writer.append(chunk)

    def close(self, *, interrupted: bool) -> int:
        """Finish the file and return how many events are in it. Raises: InputError."""
        if self._writer is None:
            return 0
        writer, self._writer = self._writer, None
        writer.close(interrupted=interrupted)
        return writer.events

    def abandon(self) -> None:
        """Give up what is not finished."""
        if self._writer is not None:
            self._writer.abandon()


@contextmanager
def event_file(flags: ReplayFlags) -> Iterator[EventFile | None]:
    """Give the file that the flags ask for: the user's, a temporary one for --html, or none."""
    if flags.events is None and flags.html is None:
        yield None
        return
    with TemporaryDirectory(prefix="kvatlas-") as folder:
        path = flags.events or str(Path(folder) / "events.arrows")
        file = EventFile(path, flags.events is not None)
        try:
            yield file
        finally:
            file.abandon()
