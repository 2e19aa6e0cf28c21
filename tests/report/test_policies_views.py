"""Every view of a comparison of policies says the same, in order, and breaks on nothing."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from capacity_documents import EVIL, policies_document
from html_checker import checked
from rich.console import Console

from kvatlas.report.capacity_csv import policies_csv
from kvatlas.report.curve_document import PoliciesDocument
from kvatlas.report.policies_html import policies_html
from kvatlas.report.policies_json import policies_dict, policies_json
from kvatlas.report.policies_tables import by_capacity_table, focus_index, focus_table
from kvatlas.report.policies_terminal import print_policies


def printed(document: PoliciesDocument) -> str:
    file = io.StringIO()
    print_policies(Console(file=file, width=80, highlight=False, emoji=False), document)
    return file.getvalue()


def without_hits() -> PoliciesDocument:
    """Nothing repeats: all policies miss everything."""
    document = policies_document()
    none = np.zeros_like(document.capacity_blocks)
    rows = tuple(
        replace(row, hit_blocks=none, hit_tokens=none, gap_closed=np.full(none.size, np.nan))
        for row in document.rows
    )
    return replace(document, rows=rows, queried_blocks=0, engine={})


def single() -> PoliciesDocument:
    """One capacity only."""
    document = policies_document()
    rows = tuple(
        replace(
            row,
            hit_blocks=row.hit_blocks[3:4],
            hit_tokens=row.hit_tokens[3:4],
            gap_closed=row.gap_closed[3:4],
        )
        for row in document.rows
    )
    return replace(document, rows=rows, capacity_blocks=document.capacity_blocks[3:4])


def test_the_json_has_the_keys_of_the_contract() -> None:
    document = policies_document()
    said = json.loads(policies_json(document))
    assert said["schema"] == 1
    assert list(said["policies"]) == ["lru", "good", "bad", "optimum", "ceiling"]
    for points in said["policies"].values():
        assert [each["capacity_blocks"] for each in points] == document.capacity_blocks.tolist()
        for each in points:
            assert 0 <= each["block_hit_rate"] <= 1
            assert 0 <= each["token_hit_rate"] <= 1
    assert said["about"]["optimum"]["kind"] == "bound"
    assert said["verdict"][0].startswith("Stay on LRU")
    assert said["engine"]["good"][0]["token_hit_rate"] == 0.34


def test_what_cannot_be_had_is_null_with_a_reason() -> None:
    said = policies_dict(without_hits())
    assert said["policies"]["lru"][0]["block_hit_rate"] is None
    assert said["policies"]["good"][0]["gap_closed"] is None
    assert {"policies.block_hit_rate", "policies.gap_closed"} <= set(said["unavailable"])


def test_the_csv_has_a_row_for_each_policy_and_capacity() -> None:
    document = policies_document()
    rows = list(csv.DictReader(io.StringIO(policies_csv(document).decode())))
    assert len(rows) == len(document.rows) * document.capacity_blocks.size
    assert {row["policy"] for row in rows} == {row.name for row in document.rows}


def test_the_best_policy_stands_first_and_lru_where_it_belongs() -> None:
    table = focus_table(policies_document())
    assert [row[0] for row in table.rows] == ["Good", "LRU", "Bad", "Optimum", "Ceiling"]
    assert table.marked == {1}
    good = dict(zip(table.columns, table.rows[0], strict=True))
    assert good["gap closed"] in ("50%", "49%")
    assert good["to LRU"].startswith("+")
    assert table.remark == "the knee of the LRU curve"


def test_a_capacity_that_was_asked_for_is_looked_at_first() -> None:
    document = policies_document()
    asked = int(document.capacity_blocks[1])
    asking = replace(document, config={**document.config, "blocks": asked})
    assert focus_index(asking) == 1
    assert "as asked for" in focus_table(asking).remark


@pytest.mark.parametrize("most", [3, 4, 6, 7, 20])
def test_few_columns_always_hold_the_one_that_matters(most: int) -> None:
    document = policies_document()
    table = by_capacity_table(document, most)
    whole = by_capacity_table(document)
    assert len(table.columns) - 1 <= max(most, 3)
    assert whole.columns[1 + focus_index(document)] in table.columns
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_terminal_begins_with_the_verdict_and_fits_80_columns() -> None:
    text = printed(policies_document())
    assert max(len(line) for line in text.splitlines()) <= 80
    order = [
        "Stay on LRU", "Block hit rate over capacity", "Policies at", "By capacity",
        "In the engine itself", "What each does", "Facts", "a note that must be read",
    ]  # fmt: skip
    at = [text.index(each) for each in order]
    assert at == sorted(at)


def test_the_page_stands_alone_and_begins_with_the_verdict() -> None:
    _, checker = checked(policies_html(policies_document(title=EVIL)))
    said = checker.said
    order = [
        "Stay on LRU", "Block hit rate over capacity", "Policies at", "By capacity",
        "In the engine itself", "What each does", "a note that must be read",
    ]  # fmt: skip
    at = [said.index(each) for each in order]
    assert at == sorted(at)


@pytest.mark.parametrize(
    "document",
    [without_hits(), single(), policies_document(partial="interrupted: without Bad", engine={})],
    ids=["nothing is hit", "one capacity", "partial"],
)
def test_every_view_shows_less_without_breaking(document: PoliciesDocument) -> None:
    text = printed(document)
    html, checker = checked(policies_html(document))
    assert "NaN" not in html.split("<script>")[0]
    assert policies_csv(document)
    assert json.loads(policies_json(document))["partial"] is bool(document.partial)
    for said in (text, checker.said):
        assert ("PARTIAL: interrupted" in said) is bool(document.partial)
