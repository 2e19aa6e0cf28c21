"""What `kvatlas device lint` shows, frozen; every view gets the same.

Owns: the shape, its JSON (docs/guide/device-tools.md), the verdict in one line. Leaves to others:
the rules (`kvatlas.device.conf`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from kvatlas.device.conf import Environment, Finding

__all__ = ["DeviceLintDocument"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True)
class DeviceLintDocument:
    """Settings and what PyTorch makes of them: `found`, by kvatlas `version`."""

    version: str
    found: Environment

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them: about the variables, then about the text."""
        own = self.found.findings
        return own if self.found.lint is None else own + self.found.lint.findings

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        lint = self.found.lint
        if lint is None:
            return "No settings: neither of the variables is set, PyTorch uses its defaults."
        if lint.refused:
            return "PyTorch's CUDA build refuses these settings."
        counts = Counter(each.level for each in self.findings)
        if counts["trap"]:
            which = "one of them does" if counts["trap"] == 1 else f"{counts['trap']} things do"
            return f"PyTorch takes these settings, but {which} not do what it says."
        return "PyTorch takes these settings and does what they say."

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        lint = self.found.lint
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "variable": self.found.variable,
            "text": None if lint is None else lint.text,
            "clean": self.found.clean,
            "refused": lint is not None and lint.refused,
            "values": {} if lint is None else dict(lint.values),
            "findings": [asdict(each) for each in self.findings],
        }
