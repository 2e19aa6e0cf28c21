"""The replay report in a terminal, laid out for 80 columns.

Owns: its look. Leaves to others: what is said (`replay_facts`) and the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report import replay_facts
from kvatlas.report.console import bar, bar_columns, heading, two_columns
from kvatlas.report.document import ReplayDocument
from kvatlas.report.replay_facts import Fact

__all__ = ["print_replay"]

_STYLES = {"plain": "", "unknown": "dim", "alarm": "bold red"}
_BAR_STYLES = ("green", "magenta", "blue")


def print_replay(console: Console, document: ReplayDocument) -> None:
    """Print the whole report."""
    blank = Text()
    parts: list[RenderableType] = [blank, *_title(document), blank]
    parts += [two_columns(_headline(document, bar_columns(console))), blank]
    for section in replay_facts.sections(document):
        parts.append(heading(section.title, section.remark))
        parts += [two_columns(_rows(section.facts)), blank]
    if document.prediction is not None:
        from kvatlas.report.prediction_terminal import prediction_parts

        parts += [*prediction_parts(console, document.prediction), blank]
    parts += [two_columns(_rows(replay_facts.notes(document))), blank]
    console.print(Group(*parts))


def _title(document: ReplayDocument) -> Iterator[Text]:
    if document.partial:
        yield Text(replay_facts.partial_warning(document), style=_STYLES["alarm"])
        yield Text()
    title = Text(str(document.workload["name"]), style="bold")
    title.append(f" on {document.engine}", style="not bold")
    yield title
    yield Text(replay_facts.subtitle(document), style="dim")


def _headline(document: ReplayDocument, columns: int) -> Iterator[tuple[str, Text]]:
    said = []
    shares = replay_facts.headline(document)
    for (label, name, meaning), style in zip(shares, _BAR_STYLES, strict=True):
        value = document.figure(name)
        if value is None:
            yield label, Text(f"not known: {document.why(name)}", style="dim")
        else:
            text = Text(f"{100 * value:6.2f}%  ", style="bold")
            yield label, text + bar(value, columns, style)
            said.append(meaning)
    if said:
        yield "", Text("; ".join(said), style="dim")


def _rows(facts: Iterable[Fact]) -> Iterator[tuple[str, Text]]:
    for fact in facts:
        yield fact.label, Text(fact.text, style=_STYLES[fact.tone])
