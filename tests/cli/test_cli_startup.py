"""What a command imports: `--help` next to nothing, a replay only what it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import hashed_trace, process

_HEAVY = {
    "msgspec", "numba", "numpy", "pandas", "plotly", "pooch", "pyarrow", "rich", "zstandard",
}  # fmt: skip
# Instead of ending the process, tell what was imported.
_TELL = """
import json, os, sys
def leave(code):
    print("imported", json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
    sys.stdout.flush()
    sys.exit(code)
os._exit = leave
"""


def imported(*args: object) -> set[str]:
    started = process(args, code=_TELL)
    out, err = started.communicate(timeout=300)
    assert (started.returncode, err) == (0, "")
    return set(json.loads(out.split("imported ")[-1]))


@pytest.mark.parametrize("args", [("--help",), ("replay", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    assert imported(*args) & _HEAVY == set()


def test_a_replay_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    assert imported("replay", trace) & _HEAVY == {"msgspec", "numba", "numpy", "rich"}


def test_a_listing_needs_no_compiler() -> None:
    assert "numba" not in imported("traces", "list")
