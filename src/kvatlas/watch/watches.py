"""The engines that a path stands for: finished recordings, or a folder that servers record into.

Owns: which engines there are, looking for new ones. Leaves to others: one engine's events
(`playing`, `following`).
"""

from __future__ import annotations

from pathlib import Path

from kvatlas.errors import InputError
from kvatlas.events import open_recording
from kvatlas.events.live.folders import engine_folders
from kvatlas.watch.following import LiveFeed
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.source import EngineFeed

__all__ = ["FolderWatch", "PlayedWatch"]


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
