"""The comparison of eviction policies as one self-contained HTML page: the verdict first.

Owns: what stands where, the chart and how it is introduced. Leaves to others: tables
(`policies_tables`), charts (`capacity_chart`), style and scripts (`page`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvatlas.report.capacity_axis import CapacityAxis
from kvatlas.report.capacity_chart import CAPACITY_HELP, Series, Upright, capacity_chart
from kvatlas.report.capacity_html import capacity_page, html_facts, html_head, html_settings
from kvatlas.report.curve_document import PoliciesDocument
from kvatlas.report.curve_facts import rule_words, subtitle, timing_fact
from kvatlas.report.policies_tables import (
    about_table,
    by_capacity_table,
    focus_table,
    policies_engine_table,
    policies_units,
)
from kvatlas.report.replay_facts import Fact
from kvatlas.report.text_table import html_table

__all__ = ["policies_html"]

_LRU, _OPTIMUM, _FIRST_OTHER, _OTHERS = 1, 3, 21, 10


def policies_html(document: PoliciesDocument) -> bytes:
    """Return the page: some 30 kB, and 1 kB for each capacity."""
    return capacity_page(
        f"{document.title}: eviction policies",
        document.version,
        (
            html_head(
                document.title,
                subtitle(document.workload, document.config),
                document.verdict,
                document.partial,
            ),
            _chart(document),
            *_tables(document),
            html_table(about_table(document)),
            html_facts(_facts(document), document.notes),
            html_settings(document.config),
        ),
    )


def _tables(document: PoliciesDocument) -> Iterator[Iterator[str]]:
    if not any(row.hit_blocks.any() for row in document.rows):
        return
    yield html_table(focus_table(document))
    if document.capacity_blocks.size > 1:
        yield html_table(by_capacity_table(document))
    if document.engine:
        yield html_table(policies_engine_table(document))


def _facts(document: PoliciesDocument) -> Iterator[Fact]:
    yield Fact("Counted", rule_words(document.config))
    yield timing_fact(document.timing)


def _chart(document: PoliciesDocument) -> Iterator[str]:
    if document.capacity_blocks.size < 2 or not any(row.hit_blocks.any() for row in document.rows):
        return
    queried = max(1, document.queried_blocks)
    blocks = document.capacity_blocks
    series, levels, others = [], [], 0
    for row in document.rows:
        rates = np.asarray(row.hit_blocks / queried, np.float64)
        if row.name == "ceiling":
            levels.append(("ceiling", float(rates.max())))
        elif row.name == "lru":
            series.append(Series(row.title, _LRU, blocks, rates, "bold"))
        elif row.kind == "bound":
            series.append(Series(row.name, _OPTIMUM, blocks, rates, "dotted"))
        else:
            look = "dashed" if others >= _OTHERS // 2 else "line"
            color = _FIRST_OTHER + others % _OTHERS
            series.append(Series(row.title, color, blocks, rates, look))
            others += 1
    between = None
    order = {each.color: number for number, each in enumerate(series)}
    if _LRU in order and _OPTIMUM in order:
        between = (order[_LRU], order[_OPTIMUM])
    named = [Upright("knee", document.knee_blocks)]
    asked = document.config.get("blocks")
    if asked and asked != document.knee_blocks:
        named.append(Upright("--blocks", int(asked)))
    axis = CapacityAxis.over(blocks)
    scale = "a logarithmic" if axis.log else "a linear"
    yield f'<p class="sub capacity-help">{CAPACITY_HELP}</p>'
    yield capacity_chart(
        "Block hit rate over capacity",
        axis,
        policies_units(document),
        series,
        note="LRU is what engines do; a policy is worth it where it lies well above LRU, and the "
        f"shaded gap is all there is to gain. Capacity on {scale} axis, straight between the "
        "capacities that were simulated.",
        levels=levels,
        uprights=named,
        between=between,
        tall=True,
    )
