"""A budget as one self-contained HTML page: whether it fits, then the waterfall.

Owns: what stands where. Leaves to others: the bars (`budget_bars`), tables (`budget_tables`), style
(`page`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from kvatlas.budget import Budget
from kvatlas.report.budget_bars import waterfall_bars
from kvatlas.report.budget_buffers import budget_notes, load_table
from kvatlas.report.budget_document import BudgetDocument
from kvatlas.report.budget_tables import (
    budget_facts,
    budget_subtitle,
    flags_table,
    groups_table,
    lengths_table,
    log_table,
    stages_table,
    waterfall_table,
)
from kvatlas.report.capacity_html import ASSETS, html_facts, html_head, html_settings
from kvatlas.report.page import page
from kvatlas.report.replay_facts import Fact
from kvatlas.report.text_table import html_table
from kvatlas.units import format_bytes

__all__ = ["budget_html"]


def budget_html(document: BudgetDocument) -> bytes:
    """Return the page: some 30 kB."""
    found = document.found
    sentences = [each for each in (document.verdict.line, document.verdict.remedy) if each]
    facts = [Fact(label, text) for label, text in budget_facts(document)]
    sections = (
        html_head(found.name, budget_subtitle(found), sentences, ""),
        _alarm(document),
        waterfall_bars(document),
        () if document.log is None else html_table(log_table(document.log)),
        () if document.load is None else html_table(load_table(document.load)),
        html_table(stages_table(found)),
        html_table(groups_table(found)),
        _groups(found),
        html_table(lengths_table(document)),
        html_table(flags_table(document)),
        html_table(waterfall_table(found)),
        html_facts(facts, budget_notes(document)),
        html_settings(document.config),
        (f"<footer>kvatlas {escape(document.version)}</footer>",),
    )
    body = "".join(part for section in sections for part in section)
    return page(
        f"{found.name}: memory budget",
        f'<div class="capacity-page budget-page">{body}</div>',
        assets=(*ASSETS, "budget.css"),
    )


def _alarm(document: BudgetDocument) -> Iterator[str]:
    """Yield what vLLM has counted twice, before everything else that the log says."""
    real = None if document.log is None else document.log.real
    if document.log is not None and real is not None and real.corrected is not None:
        yield f'<p class="alarm counted-twice">{escape(document.log.notes[0])}.</p>'


def _groups(found: Budget) -> Iterator[str]:
    """Yield what of each group's block holds something, where one does not in full."""
    if not any(group.padding_bytes for group in found.groups):
        return
    yield '<div class="paddings">'
    for group in dict.fromkeys(found.groups):
        size = group.used_bytes + group.padding_bytes
        share = 100 * group.used_bytes / size
        title = f"{format_bytes(group.used_bytes)} of {format_bytes(size)} hold something"
        left = f"{format_bytes(group.padding_bytes)} padding" if group.padding_bytes else "full"
        yield (
            f'<div title="{escape(title)}"><span>{escape(group.kind)}, {group.layers} layers</span>'
            f'<div class="meter"><i style="width:{share:.2f}%"></i></div>'
            f"<b>{escape(left)}</b></div>"
        )
    yield "</div>"
