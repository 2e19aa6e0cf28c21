"""The comparison of two runs as JSON.

Owns: the bytes. The keys are the document's, described in docs/reference/diff-json.md.
"""

from __future__ import annotations

from kvatlas.report.diff_document import DiffDocument
from kvatlas.report.replay_json import json_bytes

__all__ = ["diff_json"]


def diff_json(document: DiffDocument) -> bytes:
    """Return the document as JSON."""
    return json_bytes(document.to_dict())
