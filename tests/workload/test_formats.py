"""The registry: detection by content, ties by name, `resolve`, and imports that stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from workload_builders import mooncake_row, public_trace, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import detect, format_names, load, reader_for, resolve


def test_every_format_is_registered_under_its_own_name() -> None:
    assert len(format_names()) == 11
    for name in format_names():
        reader = reader_for(name)
        assert reader.name == name
        assert reader.summary
        assert all(reader.options.values())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mooncake_conversation.jsonl", "mooncake"),
        ("azure_llm_2023_conversation.csv", "azure-2023"),
        ("sharegpt_llama3_300.jsonl.gz", "token-ids"),
        ("claude_code_sessions", "claude-code"),
        ("claude_code_sessions/trace_0019.json.gz", "claude-code"),
    ],
)
def test_public_traces_are_recognised(name: str, wanted: str) -> None:
    assert detect(public_trace(name)).name == wanted


def test_content_decides_whatever_the_name_says(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "azure.csv", [mooncake_row(0, 5, [1])])
    assert detect(path).name == "mooncake"


def test_the_name_breaks_a_tie(tmp_path: Path) -> None:
    rows = ["Timestamp,Request tokens,Response tokens", "1,2,3"]
    assert detect(write_lines(tmp_path / "trace.csv", rows)).name == "burstgpt"
    assert detect(write_lines(tmp_path / "plain.csv", rows)).name == "plain-csv"


def test_a_first_line_longer_than_the_head(tmp_path: Path) -> None:
    ids = list(range(60_000))
    path = write_lines(tmp_path / "t", [mooncake_row(0, 512 * len(ids), ids)])
    assert path.stat().st_size > 300_000
    assert detect(path).name == "mooncake"


def test_a_forced_format(tmp_path: Path) -> None:
    row = {"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [1]}
    path = write_lines(tmp_path / "t", [row])
    assert load(path).prefix_known
    assert not load(path, format="plain-jsonl").prefix_known


def test_resolve_takes_paths_and_names(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [mooncake_row(0, 5, [1])])
    assert resolve(path).num_requests == 1
    assert resolve(str(path), limit=1).name == "t"
    assert resolve("conversation").source.startswith("generated")
    with pytest.raises(InputError, match=r"neither a file nor a built-in workload.*conversation"):
        resolve("no-such-thing")


def test_importing_stays_light() -> None:
    code = (
        "import sys, kvatlas.workload\n"
        "heavy = {'numba', 'pyarrow', 'pooch', 'rich', 'zstandard', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
