"""How the JSON of every study of one trace begins (curve, policies, placement).

Owns: the keys that they share. Leaves to others: the rest of each (`curve_json`, `policies_json`,
`placement_json`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Study", "study_head"]


class Study(Protocol):
    """What the documents of studies have in common."""

    @property
    def version(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def partial(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def workload(self) -> Mapping[str, Any]: ...


def study_head(document: Study, schema: int) -> dict[str, Any]:
    """Return the first keys of a study's JSON, in plain types."""
    return {
        "schema": schema,
        "kvatlas": document.version,
        "title": document.title,
        "partial": bool(document.partial),
        "partial_reason": document.partial or None,
        "config": dict(document.config),
        "workload": dict(document.workload),
    }
