"""Figures as facts: a sentence for what is known, a reason for what is not, nothing for the rest.

Owns: that rule. Leaves to others: which figures are shown, and in which words.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.report.figure_text import figure_text
from kvatlas.report.replay_facts import Fact
from kvatlas.report.run_document import RunDocument

__all__ = ["FactSheet"]


class FactSheet:
    """The figures of a document as text; names that it does not have say nothing."""

    def __init__(self, document: RunDocument) -> None:
        self._figures = document.figures

    def value(self, name: str) -> float | None:
        """Return the figure, None when it is not known."""
        return self._figures.values.get(name)

    def text(self, name: str) -> str:
        """Return the figure with its unit, empty when it is not known."""
        value = self.value(name)
        return "" if value is None else figure_text(name, value)

    def line(self, label: str, name: str, sentence: str) -> Iterator[Fact]:
        """Yield `sentence` with the figure at `{}`, or why it is not known, or nothing."""
        if name not in self._figures.values:
            return
        if self.value(name) is None:
            yield Fact(label, f"not known: {self._figures.unavailable[name]}", "unknown")
        else:
            yield Fact(label, sentence.format(self.text(name)))

    def parts(self, label: str, *parts: tuple[str, str]) -> Iterator[Fact]:
        """Yield one sentence of those figures that are known, or why the first is not."""
        known = [words.format(self.text(name)) for name, words in parts if self.text(name)]
        if known:
            yield Fact(label, ", ".join(known))
        elif parts:
            yield from self.line(label, parts[0][0], "{}")
