"""Mooncake's and Bailian's JSONL: identities, links, and the rule for partial last blocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from workload_builders import mooncake_row, public_trace, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import Workload, detect, load


def ids_of(w: Workload, row: int) -> list[int]:
    owned: list[int] = w.ids[w.id_offsets[row] : w.id_offsets[row + 1]].tolist()
    return owned


def test_mooncake_rows_become_columns(tmp_path: Path) -> None:
    rows = [
        mooncake_row(0, 600, [7, 9], output=4),
        mooncake_row(500, 512, [7], output=0),
        mooncake_row(500, 1025, [7, 9, 3]),
    ]
    w = load(write_lines(tmp_path / "t.jsonl", rows))

    assert detect(tmp_path / "t.jsonl").name == "mooncake"
    assert w.name == "t"
    assert w.arrival_s.tolist() == [0.0, 0.5, 0.5]
    assert w.prompt_tokens.tolist() == [600, 512, 1025]
    assert w.output_tokens.tolist() == [4, 1, 5]  # 0 is read as 1 ...
    assert any("no output tokens" in note for note in w.notes)  # ... and said
    assert (w.tokens_per_id, w.num_ids, w.prefix_known) == (512, 3, True)
    assert ids_of(w, 2) == [0, 1, 2]
    assert not w.outputs_identified


def test_keys_in_any_order_and_more_of_them(tmp_path: Path) -> None:
    row = '{"hash_ids": [5], "extra": {"a": [1, "x"]}, "output_length": 2, "input_length": 3, '
    w = load(
        write_lines(tmp_path / "t.jsonl", [row + '"timestamp": 1.5, "session": "s", "parent": {}}'])
    )
    assert w.prompt_tokens.tolist() == [3]
    assert w.arrival_s.tolist() == [0.0]


def test_blank_lines_carriage_returns_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\r\n".join(
        ["", json.dumps(mooncake_row(0, 5, [1])), " ", json.dumps(mooncake_row(1, 5, [1]))]
    )
    (tmp_path / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(tmp_path / "t.jsonl").num_requests == 2


def test_ids_that_lie_about_prefixes_are_rekeyed(tmp_path: Path) -> None:
    """The same raw id after different prefixes is not the same content."""
    rows = [mooncake_row(0, 1024, [1, 5]), mooncake_row(1, 1024, [2, 5])]
    w = load(write_lines(tmp_path / "t.jsonl", rows))
    assert w.num_ids == 4


def test_another_block_size(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [mooncake_row(0, 40, [1, 2, 3])])
    with pytest.raises(InputError, match="--tokens-per-id 16"):
        load(path)
    assert load(path, tokens_per_id=16).tokens_per_id == 16


def test_dropped_last_blocks_get_ids_of_their_own(tmp_path: Path) -> None:
    rows = [mooncake_row(k, 600, [1]) for k in range(3)] + [mooncake_row(9, 1024, [1, 2])]
    path = write_lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(InputError, match="--last-block dropped"):
        load(path)
    w = load(path, last_block="dropped")
    assert [ids_of(w, k) for k in range(4)] == [[0, 1], [0, 2], [0, 3], [0, 4]]
    assert "3 prompts end in a partial block" in w.notes[0]
    assert load(path, last_block="either").ids.tolist() == w.ids.tolist()


def test_sorting_on_request(tmp_path: Path) -> None:
    rows = [
        mooncake_row(10, 512, [1]),
        mooncake_row(30, 600, [1, 2]),
        mooncake_row(20, 520, [3, 4]),
    ]
    path = write_lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(InputError, match=r"t.jsonl:3: timestamp: arrives before .*--sort"):
        load(path)
    w = load(path, sort=True)
    assert w.arrival_s.tolist() == [0.0, 0.01, 0.02]
    assert w.prompt_tokens.tolist() == [512, 520, 600]
    assert [ids_of(w, k) for k in range(3)] == [[0], [1, 2], [0, 3]]
    assert "2 requests were moved" in w.notes[-1]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "t.jsonl", [mooncake_row(0, 5, [1]), mooncake_row(1, 5, [2]), "{]"]
    )
    assert load(path, limit=2).num_requests == 2
    with pytest.raises(InputError, match=":3:"):
        load(path, limit=3)


def bailian_row(chat: int, parent: int, t: float, tokens: int, ids: list[int]) -> dict[str, object]:
    return {
        "chat_id": chat,
        "parent_chat_id": parent,
        "timestamp": t,
        "input_length": tokens,
        "output_length": 7,
        "type": "text",
        "turn": 1,
        "hash_ids": ids,
    }


def test_bailian_blocks_are_chained_and_chats_linked(tmp_path: Path) -> None:
    rows = [
        bailian_row(159, -1, 61.114, 32, [8, 9]),
        bailian_row(20, -1, 61.5, 16, [9]),  # the same block, but not after the same prefix
        bailian_row(160, 159, 62.0, 50, [8, 9, 4, 2]),
        bailian_row(161, 159, 63.0, 47, [8, 9, 4]),  # a second branch of the first turn
        bailian_row(170, 4, 64.0, 20, [8]),  # its parent is not there, nor its last id
        bailian_row(171, 161, 65.0, 48, [8, 9, 4]),
    ]
    path = write_lines(tmp_path / "trace.jsonl", rows)
    w = load(path)

    assert detect(path).name == "bailian"
    assert w.tokens_per_id == 16
    assert w.arrival_s.tolist() == pytest.approx([0, 0.386, 0.886, 1.886, 2.886, 3.886])
    assert w.parent.tolist() == [-1, -1, 0, 0, -1, 3]
    assert w.session.tolist() == [0, 1, 0, 0, 2, 0]
    assert [ids_of(w, k) for k in range(4)] == [[0, 1], [2], [0, 1, 3, 4], [0, 1, 3]]
    assert ids_of(w, 4) == [0, 5]
    assert ids_of(w, 5) == [0, 1, 3]
    assert any("1 requests continue a chat" in note for note in w.notes)
    assert any("1 prompts end in a partial block" in note for note in w.notes)


def test_bailian_chat_ids_that_recur(tmp_path: Path) -> None:
    """A child follows the last earlier row with its parent's id, never itself or a later one."""
    rows = [
        bailian_row(c, p, k, 16, [k]) for k, (c, p) in enumerate([(5, 5), (5, 5), (5, 6), (6, 5)])
    ]
    w = load(write_lines(tmp_path / "t.jsonl", rows))
    assert w.parent.tolist() == [-1, 0, -1, 2]


def test_bailian_sorted_children_keep_their_parents(tmp_path: Path) -> None:
    rows = [bailian_row(1, -1, 5.0, 16, [1]), bailian_row(2, 1, 6.0, 16, [2]),
            bailian_row(3, -1, 1.0, 16, [3]), bailian_row(4, 1, 2.0, 16, [4])]  # fmt: skip
    w = load(write_lines(tmp_path / "t.jsonl", rows), sort=True)
    assert w.parent.tolist() == [-1, -1, -1, 2]
    assert any("unlinked" in note for note in w.notes)


def test_the_conversation_trace() -> None:
    path = public_trace("mooncake_conversation.jsonl")
    w = load(path)
    assert (w.num_requests, w.ids.size, w.num_ids) == (12_031, 288_500, 182_790)
    assert w.total_prompt_tokens == 144_793_823
    assert w.arrival_s[-1] == 3536.999
    assert w.ids.dtype == np.int32
    raw = [json.loads(line)["hash_ids"] for line in path.read_text().splitlines()[:50]]
    assert w.head(50).ids.tolist() == [name for ids in raw for name in ids]  # already chained
    w.head(777).check()
