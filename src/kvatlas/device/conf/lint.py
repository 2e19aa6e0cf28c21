"""A text of settings, read and judged.

Owns: `lint_text` and its result. Leaves to others: reading (`reading`), rules (`rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvatlas.device.conf.findings import Finding
from kvatlas.device.conf.reading import read_text
from kvatlas.device.conf.rules import together

__all__ = ["Lint", "lint_text"]

_ORDER = {"refused": 0, "trap": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Lint:
    """What PyTorch makes of a text.

    Attributes:
        text: as given.
        values: by key, what PyTorch takes from it; sizes in MiB.
        findings: the worst first, then in the order of the text.
    """

    text: str
    values: Mapping[str, bool | int | float | str | tuple[int, ...]]
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """Whether PyTorch's CUDA build stops at the text."""
        return any(each.level == "refused" for each in self.findings)

    @property
    def clean(self) -> bool:
        """Whether PyTorch takes the text and does what it says."""
        return all(each.level == "note" for each in self.findings)


def lint_text(text: str) -> Lint:
    """Return what PyTorch 2.13 makes of a text of settings; O(characters), never fails."""
    read = read_text(text)
    findings = read.findings[: read.adrift]
    if not read.stopped:
        findings += together(read)
    if any(each.level == "refused" for each in findings):
        # What a start that does not happen would bring is of no interest.
        findings = [each for each in findings if each.level != "note"]
    findings.sort(key=lambda each: (_ORDER[each.level], each.column or 0))
    return Lint(text, dict(read.values), tuple(findings))
