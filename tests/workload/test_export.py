"""The anonymised export: what survives the way out and back in, and what must not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workload_builders import mooncake_row, public_trace, workload, workloads, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import Workload, detect, generate, load
from kvatlas.workload.describe import describe
from kvatlas.workload.export import export

on_disk = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def structure(w: Workload) -> list[tuple[Any, ...]]:
    """Return everything that a replay sees, names of sessions and salts left out."""
    first_of: dict[int, int] = {}
    rows = []
    for row in range(w.num_requests):
        ids = w.ids[w.id_offsets[row] : w.id_offsets[row + 1]].tolist()
        session = int(w.session[row])
        rows.append(
            (
                w.arrival_s[row] - w.arrival_s[0],
                w.prompt_tokens[row],
                w.output_tokens[row],
                tuple(first_of.setdefault(block, len(first_of)) for block in ids),
                None if session < 0 else int(np.flatnonzero(w.session == session)[0]),
                w.parent[row],
                w.priority[row],
                int(np.flatnonzero(w.salt == w.salt[row])[0]),
                w.salt[row] == 0,
            )
        )
    return rows


@on_disk
@given(workloads())
def test_the_structure_survives(tmp_path: Path, made: Workload) -> None:
    out = tmp_path / "out.jsonl"
    if not made.prefix_known or made.num_requests == 0:
        return
    said = export(made, out)
    back = load(out)
    assert detect(out).name == "mooncake"
    assert structure(back) == structure(made)
    assert (back.tokens_per_id, back.outputs_identified) == (
        made.tokens_per_id,
        made.outputs_identified,
    )
    assert (said.requests, said.distinct_ids) == (made.num_requests, back.num_ids)


@pytest.mark.parametrize("name", ["conversation", "agents", "retrieval"])
def test_a_generated_workload_is_described_alike(name: str, tmp_path: Path) -> None:
    made = generate(name, num_requests=300)
    export(made, tmp_path / "out.jsonl.gz")
    back = load(tmp_path / "out.jsonl.gz")
    assert np.abs(back.arrival_s - made.arrival_s).max() < 1e-6
    before, after = describe(made).to_dict(), describe(back).to_dict()
    assert after["sharing"]["ceiling_hit_tokens"] == before["sharing"]["ceiling_hit_tokens"]
    assert after["sharing"]["top_prefixes"] == before["sharing"]["top_prefixes"]
    assert (after["sessions"] or {}).get("turns") == (before["sessions"] or {}).get("turns")


def test_the_public_conversation_trace_survives(tmp_path: Path) -> None:
    trace = load(public_trace("mooncake_conversation.jsonl"), limit=1000)
    export(trace, tmp_path / "out.jsonl")
    back = load(tmp_path / "out.jsonl")
    assert structure(back) == structure(trace)
    assert back.tokens_per_id == 512


text = st.text(alphabet="ab", min_size=1, max_size=40)


@on_disk
@given(st.lists(text, min_size=1, max_size=8))
def test_ids_of_texts_are_equal_exactly_when_their_prefixes_are(
    tmp_path: Path, prompts: list[str]
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": p, "max_tokens": 3} for p in prompts])
    export(source, tmp_path / "out.jsonl", tokens_per_id=2)
    back = load(tmp_path / "out.jsonl")
    numbers: dict[str, int] = {}
    expected = [
        numbers.setdefault(p[: start + 8], len(numbers))
        for p in prompts
        for start in range(0, len(p), 8)
    ]
    assert back.ids.tolist() == expected
    assert back.prompt_tokens.tolist() == [-(-len(p) // 4) for p in prompts]


ids = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@on_disk
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=6))
def test_token_ids_give_the_identities_of_the_token_reader(
    tmp_path: Path, made: list[tuple[list[int], list[int]]]
) -> None:
    rows = [
        {"input_tok_ids": one, "output_tok_ids": two, "arrival_time_ns": k * 10**7}
        for k, (one, two) in enumerate(made)
    ]
    source = write_lines(tmp_path / "in.jsonl", rows)
    said = export(source, tmp_path / "out.jsonl", tokens_per_id=4)
    assert said.outputs_identified
    expected = load(source, format="token-ids", identity_tokens=4)
    assert structure(load(tmp_path / "out.jsonl")) == structure(expected)


SECRET = "the launch code is 7319 and nobody may know"


def chats() -> list[dict[str, Any]]:
    system = {"role": "system", "content": "You are a helpful assistant of Contoso. " * 4}
    ask = {"role": "user", "content": SECRET}
    answer = {"role": "assistant", "content": "I will keep it to myself."}
    more = {"role": "user", "content": [{"type": "text", "text": "What is it?"}]}
    first = {"messages": [system, ask], "response": "x" * 100, "session_id": "alice"}
    other = {"messages": [system, more], "output_tokens": 9, "session_id": 8, "priority": 2}
    second = {"messages": [system, ask, answer, more], "max_tokens": 7, "session_id": "alice"}
    times = ("2026-01-01T10:00:00Z", "2026-01-01T10:00:01.5Z", "2026-01-01T10:00:30Z")
    rows: list[dict[str, Any]] = [first, other, second]
    return [{**row, "timestamp": at} for row, at in zip(rows, times, strict=True)]


def test_chats_become_turns_that_share_their_prefix(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", chats())
    said = export(source, tmp_path / "out.jsonl", salt="pepper")
    back = load(tmp_path / "out.jsonl")
    assert back.arrival_s.tolist() == [0, 1.5, 30]
    assert back.output_tokens.tolist() == [25, 9, 7]
    assert back.session.tolist() == [0, 1, 0]
    assert back.parent.tolist() == [-1, -1, 0]
    assert back.priority.tolist() == [0, 2, 0]
    first, other, second = (
        back.ids[back.id_offsets[k] : back.id_offsets[k + 1]].tolist() for k in range(3)
    )
    system_blocks = len("system\n" + "You are a helpful assistant of Contoso. " * 4) // 64
    assert first[:system_blocks] == other[:system_blocks] == second[:system_blocks]
    assert first[:-1] == second[: len(first) - 1]
    assert "4 UTF-8 bytes are counted as one token" in said.notes[0]


def test_nothing_of_the_prompts_nor_of_the_salt_is_in_the_file(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "alice.jsonl", chats())
    one, two, random = (tmp_path / name for name in ("one.jsonl", "two.jsonl", "random.jsonl"))
    export(source, one, salt="pepper")
    export(source, two, salt="paprika")
    export(source, random)
    content = one.read_text()
    # Dense numbers depend on the pattern of equalities alone, so the salt cannot show.
    assert content == two.read_text() == random.read_text()
    for word in (SECRET, "launch", "7319", "Contoso", "alice", "pepper", "2026", "assistant"):
        assert word not in content
    for line in content.splitlines():
        row = json.loads(line)
        assert all(isinstance(value, int | float | list) for value in row.values())
        assert set(row) == {
            *("timestamp", "input_length", "output_length", "block_size", "hash_ids"),
            *("session", "parent", "priority"),
        }


def test_equal_patterns_of_other_texts_give_the_same_file(tmp_path: Path) -> None:
    def log(name: str, one: str, two: str) -> Path:
        return write_lines(tmp_path / name, [{"prompt": p} for p in (one * 64, one * 64, two * 64)])

    export(log("a.jsonl", "a", "b"), tmp_path / "1.jsonl")
    export(log("b.jsonl", "x", "y"), tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_cache_salts_keep_prefixes_apart_and_lose_their_names(tmp_path: Path) -> None:
    rows = [
        {"prompt": "x" * 64, "arrival_time_s": k, "cache_salt": name}
        for k, name in enumerate(["team-b", None, "team-a", "team-b"])
    ]
    export(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    back = load(tmp_path / "out.jsonl")
    assert back.salt.tolist() == [1, 0, 2, 1]
    assert back.ids.tolist() == [0, 1, 2, 0]
    assert "team" not in (tmp_path / "out.jsonl").read_text()


def test_times_can_be_coarsened(tmp_path: Path) -> None:
    export(workload([16, 16, 16], [[1], [2], [3]]), tmp_path / "out.jsonl", time_resolution_ms=400)
    assert load(tmp_path / "out.jsonl").arrival_s.tolist() == [0, 0.4, 0.4]


def test_a_disorderly_log_is_ordered_and_noted(tmp_path: Path) -> None:
    rows = [{"prompt": "b" * 70, "timestamp_ms": 9.5}, {"prompt": "a" * 70, "timestamp_ms": 2}]
    said = export(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl")
    back = load(tmp_path / "out.jsonl")
    assert back.arrival_s.tolist() == [0, 0.0075]
    assert back.ids.tolist() == [0, 1, 2, 3]
    assert any("moved to order them by arrival" in note for note in said.notes)
    assert any("no output length" in note for note in said.notes)


def test_a_compressed_file_says_nothing_about_its_making(tmp_path: Path) -> None:
    made = workload([16], [[1]])
    export(made, tmp_path / "a.jsonl.gz")
    export(made, tmp_path / "b.jsonl.gz")
    content = (tmp_path / "a.jsonl.gz").read_bytes()
    assert content == (tmp_path / "b.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress(content))["hash_ids"] == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": ""}, "in.jsonl:2: prompt: a prompt of 0 tokens"),
        ({"max_tokens": 3}, "in.jsonl:2: prompt: no prompt, messages or token ids"),
        ({"prompt": "x", "output_tokens": -1}, "output_tokens: an output of -1 tokens"),
        ({"prompt": "x", "timestamp": "noon"}, "timestamp: not an ISO 8601 time"),
        ({"prompt": "x", "priority": 2**40}, "priority: the number does not fit in 32 bits"),
        ({"prompt_token_ids": [2**70]}, "prompt_token_ids: a token id does not fit in 64 bits"),
        ({"messages": "hello"}, "in.jsonl:2: messages: expected array | null, got str"),
        ("not json", "in.jsonl:2: not valid JSON"),
    ],
)
def test_a_bad_row_is_named_and_leaves_nothing(row: Any, message: str, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(InputError) as raised:
        export(source, tmp_path / "out.jsonl")
    assert message in str(raised.value)
    assert SECRET not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    lengths = write_lines(tmp_path / "l.jsonl", [{"arrival_s": 0, "prompt": 5, "output": 2}])
    with pytest.raises(InputError, match="lengths only"):
        export(lengths, out)
    with pytest.raises(InputError, match="no such file"):
        export(tmp_path / "none.jsonl", out)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "fine"}])
    with pytest.raises(InputError, match="would overwrite its source"):
        export(source, source)
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        export(source, tmp_path / "none" / "out.jsonl")
    with pytest.raises(InputError, match="salt: must not be empty"):
        export(source, out, salt="")
    with pytest.raises(InputError, match="time_resolution_ms: must be a positive"):
        export(source, out, time_resolution_ms=0)
    with pytest.raises(InputError, match="tokens_per_id: not a number of tokens"):
        export(source, out, tokens_per_id=0)
    some = [{"prompt": "a", "timestamp": 1}, {"prompt": "b"}]
    with pytest.raises(InputError, match="1 of 2 requests have no time"):
        export(write_lines(tmp_path / "t.jsonl", some), out)
    assert not out.exists()


def test_an_export_is_exported_again_unchanged(tmp_path: Path) -> None:
    export(generate("conversation", num_requests=50), tmp_path / "one.jsonl")
    export(tmp_path / "one.jsonl", tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


class TestReadingBack:
    """The mooncake reader's side of it."""

    def refused(self, path: Path, *changes: dict[str, Any], **options: Any) -> str:
        rows = [
            {**mooncake_row(k, 16, [k]), "block_size": 16, "session": 0, "parent": -1, **change}
            for k, change in enumerate(({}, *changes))
        ]
        with pytest.raises(InputError) as raised:
            load(write_lines(path, rows), **options)
        return str(raised.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"block_size": 32}, "t.jsonl:2: block_size: not as in the first row (got 32)"),
            ({"covers_output": True}, "t.jsonl:2: covers_output: not as in the first row"),
            ({"parent": 1}, "t.jsonl:2: parent: not an earlier request (got 1)"),
            ({"parent": 0, "session": 1}, "t.jsonl:2: parent: of another session (got 0)"),
            ({"session": -2}, "t.jsonl:2: session: out of range (got -2)"),
            ({"cache_salt": 2**31}, "t.jsonl:2: cache_salt: out of range"),
            ({"priority": 2**70}, "t.jsonl:2: priority: the number does not fit in 64 bits"),
        ],
    )
    def test_a_bad_row_is_named(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        assert message in self.refused(tmp_path / "t.jsonl", change)

    def test_the_stated_block_size_wins(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path / "t.jsonl", tokens_per_id=512)
        assert "the file says that its ids cover 16 tokens (got 512)" in said

    def test_a_plain_mooncake_file_may_have_such_keys_of_its_own(self, tmp_path: Path) -> None:
        row = {**mooncake_row(0, 600, [4, 5]), "session": "alice", "priority": "high"}
        back = load(write_lines(tmp_path / "t.jsonl", [row]))
        assert back.tokens_per_id == 512
        assert back.session.tolist() == [-1]
