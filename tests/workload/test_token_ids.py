"""Traces with token ids: identities over prompt and output, in blocks of the size asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_builders import public_trace, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import detect, load


def row(prompt: list[int], output: list[int] | None, t_ns: int = 0, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"input_tok_ids": prompt, "arrival_time_ns": t_ns, **more}
    if output is not None:
        made["output_tok_ids"] = output
    return made


def test_a_follow_up_finds_prompt_and_answer(tmp_path: Path) -> None:
    first, answer = list(range(20)), list(range(100, 112))
    rows = [row(first, answer, 10**18), row(first + answer + [7], [1], 10**18 + 3)]
    path = write_lines(tmp_path / "t.jsonl", rows)
    w = load(path)
    assert detect(path).name == "token-ids"
    assert w.outputs_identified
    assert w.arrival_s.tolist() == [0.0, 3e-9]  # counted in whole nanoseconds
    assert w.ids.tolist() == [0, 1, 0, 1, 2]
    assert load(path, identity_tokens=8).ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_other_names_and_seconds(tmp_path: Path) -> None:
    rows = [
        {"prompt_token_ids": [1, 2], "output_token_ids": [3], "arrival_time": 1.5},
        {"prompt_token_ids": [1], "output_token_ids": [], "arrival_time": 2.0},
    ]
    w = load(write_lines(tmp_path / "t.jsonl", rows))
    assert w.arrival_s.tolist() == [0.0, 0.5]
    assert w.output_tokens.tolist() == [1, 1]


def test_an_empty_output_has_an_unknown_token(tmp_path: Path) -> None:
    """It is read as one token, equal to no other, also where it fills a block of its own."""
    rows = [row(list(range(16)), [], k) for k in range(2)]
    w = load(write_lines(tmp_path / "t.jsonl", rows))
    assert w.ids.tolist() == [0, 1, 0, 2]


def test_without_outputs_only_prompts_are_identified(tmp_path: Path) -> None:
    rows = [row(list(range(20)), None, 0, output_toks=9), row([0] * 16, None, 5, output_toks=1)]
    w = load(write_lines(tmp_path / "t.jsonl", rows))
    assert not w.outputs_identified
    assert w.output_tokens.tolist() == [9, 1]
    assert w.ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row([1, 2], [3], input_toks=3)], "1: input_toks: 2 token ids are listed .got 3."),
        ([row([1], [3], output_toks=0)], "1: output_toks: 1 token ids are listed"),
        ([row([], [3])], "1: input_toks: a request needs a prompt"),
        (
            [row([1], [3]), row([1], None, output_toks=2)],
            "2: output_tok_ids: the token ids are mis",
        ),
        (
            [row([1], None, output_toks=2), row([1], [3])],
            "2: output_tok_ids: token ids of an output",
        ),
        ([row([1], None)], "1: output_toks: the field is missing"),
        ([{"input_tok_ids": [1], "output_tok_ids": [2]}], "1: arrival_time_ns: the field is mis"),
        (
            [row([1], [2]), {"input_tok_ids": [1], "output_tok_ids": [2]}],
            "2: arrival_time_ns: the f",
        ),
        ([row([2**64], [2])], "1: input_tok_ids: a token id does not fit in 64 bits"),
        ([row([1], [2], 0), row([1], [2], 2**70)], "2: arrival_time_ns: the number does not fit"),
        ([row([1], [2], 5), row([1], [2], 4)], "2: arrival time: arrives before"),
        ([row([1.5], [2])], "1: input_tok_ids.*expected int"),  # type: ignore[list-item]
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write_lines(tmp_path / "t.jsonl", rows))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=9), min_size=1, max_size=8))
def test_equal_ids_exactly_where_token_prefixes_are_equal(
    tmp_path_factory: pytest.TempPathFactory, requests: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    rows = [row(tokens[:1], tokens[1:], k) for k, tokens in enumerate(requests)]
    w = load(write_lines(path, rows), identity_tokens=3)
    known: dict[tuple[int, ...], int] = {}
    expected = [
        known.setdefault(tuple(tokens[: end + 3]), len(known))
        for tokens in requests
        for end in range(0, len(tokens), 3)
    ]
    assert w.ids.tolist() == expected


def test_the_sharegpt_trace() -> None:
    w = load(public_trace("sharegpt_llama3_300.jsonl.gz"))
    assert w.name == "sharegpt_llama3_300"
    assert w.num_requests == 300
    assert int(w.prompt_tokens.sum() + w.output_tokens.sum()) == 452_992
    assert w.outputs_identified
