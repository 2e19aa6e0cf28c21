"""The replay report as JSON, and how any report's JSON is written.

Owns: the bytes. The keys are the document's, described in docs/reference/replay-json.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvatlas.report.document import ReplayDocument

__all__ = ["json_bytes", "replay_json"]


def json_bytes(value: Any) -> bytes:
    """Return `value` as indented JSON with a final newline; numbers are finite, text is UTF-8."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def replay_json(document: ReplayDocument) -> bytes:
    """Return the document as JSON."""
    return json_bytes(document.to_dict())
