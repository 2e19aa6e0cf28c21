"""Requests of a recording are read again only when they are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from runs import run, settings

from kvatlas.events import Header
from kvatlas.plan import reload_workload
from kvatlas.workload import Workload, generate, load, write_parquet


def header_of(workload: Workload, **config: Any) -> Header:
    """Return what a replay of `workload` would have recorded."""
    said = {
        "requests": workload.num_requests,
        "prompt_tokens": workload.total_prompt_tokens,
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
        "tokens_per_id": workload.tokens_per_id if workload.prefix_known else None,
        "distinct_ids": workload.num_ids if workload.prefix_known else None,
    }
    header = run(generate("comb", num_requests=2), num_blocks=400).header
    return msgspec.structs.replace(header, config=settings(**config), workload=said)


def same(found: Workload | str, wanted: Workload) -> None:
    assert isinstance(found, Workload), found
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "ids", "session"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_the_default_workload_is_made_again() -> None:
    same(reload_workload(header_of(generate("conversation"))), generate("conversation"))


def test_a_built_in_workload_is_made_from_its_seed_and_cut_at_its_limit() -> None:
    wanted = generate("bursts", seed=5).head(70)
    same(reload_workload(header_of(wanted, trace="bursts", seed=5, limit=70)), wanted)


def test_a_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    write_parquet(generate("agents", num_requests=50), path)
    same(reload_workload(header_of(load(path), trace=str(path))), load(path))
    wanted = load(path, limit=20)
    same(reload_workload(header_of(wanted, trace=str(path), limit=20)), wanted)


def test_token_ids_are_cut_as_they_were(tmp_path: Path) -> None:
    # GIVEN a trace of token ids that was replayed with blocks of 8
    path = tmp_path / "tokens.jsonl"
    rows = [
        {"timestamp": at / 4, "input_tok_ids": list(range(30)), "output_toks": 3} for at in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = load(path, identity_tokens=8)
    same(reload_workload(header_of(wanted, trace=str(path), block_size=8)), wanted)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"requests": 49}, "requests 50, the recording says 49"),
        ({"prompt_tokens": 1234567}, "the recording says 1,234,567"),
        ({"output_tokens": 1}, "output tokens"),
        ({"distinct_ids": 3}, "distinct ids"),
        ({"requests": None}, "the recording says None"),
    ],
)
def test_a_trace_that_was_edited_is_refused(said: dict[str, Any], why: str) -> None:
    header = header_of(generate("agents", num_requests=50).head(50), trace="agents", limit=50)
    real = generate("agents").head(50)
    told = header_of(real).workload | said
    found = reload_workload(msgspec.structs.replace(header, workload=told))
    assert isinstance(found, str)
    assert found.startswith("the trace agents is not what was recorded: ")
    assert why in found


def test_what_is_gone_is_said(tmp_path: Path) -> None:
    header = header_of(generate("comb"), trace=str(tmp_path / "gone.jsonl"))
    found = reload_workload(header)
    assert isinstance(found, str)
    assert "cannot be read again" in found
    assert "gone.jsonl" in found
    assert "\n" not in found


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("not a trace\n", encoding="utf-8")
    found = reload_workload(header_of(generate("comb"), trace=str(path)))
    assert isinstance(found, str)
    assert "cannot be read again" in found


def test_a_live_recording_has_no_trace() -> None:
    header = msgspec.structs.replace(header_of(generate("comb")), producer="live")
    found = reload_workload(header)
    assert isinstance(found, str)
    assert "live recording" in found
