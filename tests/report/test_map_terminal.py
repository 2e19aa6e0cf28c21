"""The block map in a terminal: each block in its place, mixed cells told apart without colour."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_builders import NASTY

from kvatlas.events import FragmentationSnapshot, Group, Header
from kvatlas.report.map_legend import glyphs
from kvatlas.report.map_terminal import print_map

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "measure"))

from test_map_cells import snapshot


def header(groups: int = 1) -> Header:
    return Header(
        schema=1, kvatlas="1", producer="replay", engine="vLLM", num_blocks=8, has_null=True,
        caching=True, groups=(Group("FullAttentionSpec", 16),) * groups, hash_block_size=16,
        max_num_seqs=4, max_table_blocks=8, num_requests=30,
    )  # fmt: skip


def shown(moment: FragmentationSnapshot, columns: int = 80, **options: Any) -> str:
    out = StringIO()
    groups = options.pop("groups", 1)
    print_map(Console(file=out, width=columns, highlight=False), moment, header(groups), **options)
    return out.getvalue()


def rows(text: str) -> list[str]:
    """Return the map's lines, without the ids before them."""
    lines = text.split("\n\n")[1].splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def test_a_block_is_a_cell_when_there_is_room() -> None:
    states = "nuue..u"
    text = shown(snapshot(states, null=True))
    assert rows(text) == ["×██▒··█"]
    said = " ".join(text.split())
    assert "7 blocks at 1.5 s" in said
    assert "after event 7, step 3; each cell is a block" in said
    assert "used 3 somebody owns it" in said
    assert "evictable 1 free, still cached" in said
    assert "empty 2 free, holds nothing" in said
    assert "null 1 vLLM's null block" in said
    assert "mixed" not in said


def test_ascii_and_no_colour() -> None:
    text = shown(snapshot("nuue..u", null=True), ascii_only=True)
    assert rows(text) == ["x##=..#"]
    assert "\x1b" not in text
    assert text.isascii()


def test_cells_of_many_states_are_neither_of_them() -> None:
    # GIVEN 100 blocks on a narrow terminal WHEN 8 columns have to do
    states = "u" * 30 + "ue" * 10 + "e" * 40 + "e." * 10 + "." * 2100
    text = shown(snapshot(states), width=20, ascii_only=True)
    cells = "".join(rows(text))
    # THEN 12 blocks share a cell, and a cell of one state has its letter only
    assert "each cell is 12 neighbouring blocks" in " ".join(text.split())
    assert cells.startswith("##")
    assert cells[2] in "56789"
    assert {"=", ":", "."} <= set(cells)
    assert "mixed 3 cells few to nearly all blocks of the cell are used" in " ".join(text.split())


@pytest.mark.parametrize("columns", [50, 80, 100])
@pytest.mark.parametrize("blocks", [1, 7, 1000, 200_000])
@pytest.mark.parametrize("by", ["state", "owner", "group"])
def test_fits_any_width(columns: int, blocks: int, by: str) -> None:
    moment = snapshot("u" * blocks, {(3, 0): list(range(blocks))})
    text = shown(moment, columns, by=by)
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert len(rows(text)) <= 24


def test_owners_have_letters_by_the_blocks_they_own() -> None:
    tables = {(7, 0): [1, 2, 3], (8, 0): [5, 6], (9, 0): [7]}
    moment = snapshot(".uuu.uuu", tables)
    text = shown(moment, by="owner", names={7: NASTY})
    assert rows(text) == ["·AAA·BBC"]
    said = " ".join(text.split())
    assert "A request 7 <script>alert(1)</scrip… 3 blocks in 1 run" in said
    assert "B request 8 2 blocks in 1 run" in said
    assert "\x1b" not in text
    # Two to a cell: with free ones beside, and of two owners.
    wide = snapshot(".uuu.uuu" + "." * 300, tables)
    assert rows(shown(wide, width=20, by="owner", ascii_only=True))[0].startswith("aAb*.")


def test_more_owners_than_letters() -> None:
    tables = {(number, 0): [number] for number in range(30)}
    text = shown(snapshot("u" * 30, tables), by="owner")
    assert rows(text) == ["ABCDEFGHIJKLMNOP" + "+" * 14]
    assert "and so on to P" in text


def test_groups() -> None:
    moment = snapshot("uuu.", {(0, 0): [0, 1], (0, 1): [2]})
    text = shown(moment, by="group", groups=2)
    assert rows(text) == ["AAB·"]
    assert "group 1: FullAttentionSpec, blocks of 16 tokens" in text


def test_a_range_of_blocks() -> None:
    text = shown(snapshot("uue..u"), blocks=(1, 5))
    assert rows(text) == ["█▒··"]
    assert "4 blocks (1 to 4) at 1.5 s" in " ".join(text.split())
    # The runs are the whole pool's.
    assert "Free runs 1, median 3, largest 3 of 3 blocks" in " ".join(text.split())


def test_says_what_broken_runs_cost() -> None:
    said = " ".join(shown(snapshot("u.u.e.")).split())
    assert "Free runs 2, median 2, largest 3 of 4 blocks; EFI 25.0%" in said
    assert "Empty runs 3, median 1, largest 1 of 3 blocks; EFI 66.7% (free: empty only)" in said
    assert "no allocation: blocks are equal, any free one serves" in said
    assert "none (free: empty only)" in " ".join(shown(snapshot("u")).split())


def test_glyphs_differ_without_colour() -> None:
    for ascii_only in (True, False):
        marks = glyphs(ascii_only=ascii_only)
        signs = [marks.used, marks.evictable, marks.empty, marks.free, marks.several, marks.other,
                 marks.null, *marks.partly]  # fmt: skip
        assert len(set(signs)) == len(signs)
