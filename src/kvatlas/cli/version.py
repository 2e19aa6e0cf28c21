"""The installed version of kvatlas."""

from __future__ import annotations

from importlib import metadata

__all__ = ["version"]


def version() -> str:
    """Return the installed version, "unknown" in a source tree that was never installed."""
    try:
        return metadata.version("kvatlas")
    except metadata.PackageNotFoundError:
        return "unknown"
