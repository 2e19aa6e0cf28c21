"""Views: what was measured, shown in a terminal, as JSON, tables, a trace, as one HTML page.

Owns: presentation, a file per view. Leaves to others: every number. A view gets a frozen document
and computes nothing that is not about its own layout. `FragmentationReporter` has all the views of
a run in one place, `DeviceReporter` those of a memory snapshot; the names below load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.report.device_reporter import DeviceReporter
    from kvatlas.report.reporter import FragmentationReporter
    from kvatlas.report.run_document import RunDocument

_HOME = {
    "DeviceReporter": "device_reporter",
    "FragmentationReporter": "reporter",
    "RunDocument": "run_document",
}

__all__ = ["DeviceReporter", "FragmentationReporter", "RunDocument"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
