"""What the user gave to the commands of `kvatlas bench`.

Owns: the fields. Leaves to others: names and help (`bench`), what they mean (`bench_*_run`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.cli.capacity_flags import StudyFlags

__all__ = ["PlacementFlags"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementFlags(StudyFlags):
    """What `kvatlas bench placement` takes."""

    policies: str | None
    page_blocks: int
    copy_blocks: int | None
    scheduler: bool
