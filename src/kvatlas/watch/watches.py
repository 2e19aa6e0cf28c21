"""The engines that a path stands for: finished recordings, or a folder that servers record into.

Owns: what a path is, which engines there are, looking for new ones. Leaves to others: one engine's
events (`playing`, `following`).
"""

from __future__ import annotations

from pathlib import Path

from kvatlas.errors import InputError
from kvatlas.events import open_recording
from kvatlas.events.live.folders import engine_folders
from kvatlas.watch.following import LiveFeed
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.source import EngineFeed, Watch

__all__ = ["FolderWatch", "PlayedWatch", "open_watch"]

_RECORDING_SUFFIXES = (".parquet", ".arrow", ".arrows", ".ipc")


class FolderWatch:
    """The engines that record, or recorded, into a folder.

    Args:
        folder: need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._feeds: dict[Path, EngineFeed] = {}
        self._problems: dict[Path, str] = {}

    def engines(self) -> list[EngineFeed]:
        """Return the engines there are now, newest last; looks into the folder each time."""
        folders = engine_folders(self.folder)
        for folder in folders:
            if folder not in self._feeds:
                try:
                    self._feeds[folder] = LiveFeed(folder)
                    self._problems.pop(folder, None)
                except InputError as error:
                    # It may be about to be written; the next look tries again.
                    self._problems[folder] = str(error)
        return [self._feeds[folder] for folder in folders if folder in self._feeds]

    def waiting_for(self) -> str:
        """Say what is missing."""
        if self._problems:
            return next(reversed(self._problems.values()))
        if not self.folder.exists():
            return f"no such folder yet: {self.folder}"
        return f"no engine records yet into {self.folder}"

    def close(self) -> None:
        """Let go of all feeds."""
        self._feeds.clear()


class PlayedWatch:
    """Finished recordings: a file, an engine's folder, or a folder of such folders.

    Raises: InputError for what is none of these.
    """

    def __init__(self, path: str, speed: float) -> None:
        from kvatlas.events.live.folders import engine_folders

        target = Path(path)
        paths = [str(folder) for folder in engine_folders(target)] if target.is_dir() else [path]
        self._feeds: list[EngineFeed] = [
            FileFeed(open_recording(each), speed) for each in paths or [path]
        ]

    def engines(self) -> list[EngineFeed]:
        """Return a feed for each recording."""
        return list(self._feeds)

    def waiting_for(self) -> str:
        """Return nothing: recordings are there."""
        return ""

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""


def open_watch(path: str, speed: float | None = None) -> Watch:
    """Return what to look at for a recording, or a folder that a server records into.

    Args:
        path: a recording (Parquet, Arrow stream); or a folder, which need not be there yet.
        speed: play what is recorded at `speed` times its own clock, 0 as fast as it goes. None
            plays a file at 1 and follows a folder as it grows.

    Raises: InputError saying what the path is not.
    """
    if speed is not None and not 0 <= speed <= 1e6:
        raise InputError("must be 0 to 1,000,000", field="--speed", value=speed)
    target = Path(path)
    if target.is_dir() and speed is None:
        return FolderWatch(target)
    if target.exists():
        return PlayedWatch(path, 1.0 if speed is None else speed)
    if target.suffix.lower() in _RECORDING_SUFFIXES or speed is not None:
        raise InputError("no such recording", file=path, remedy="name a recording or a folder")
    return FolderWatch(target)
