"""Every example runs as a user runs it and prints what is recorded beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXPECTED = EXAMPLES / "expected"
NEEDS = {"paged_llama": "torch"}  # examples that need an extra
VARIANTS = ("host_tier", "memory_budget", "placement")  # those that compile engines of their own


ALL = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.variants] if path.stem in VARIANTS else [])
    for path in sorted(EXAMPLES.glob("*.py"))
]


@pytest.mark.parametrize("path", ALL)
def test_example_prints_what_is_recorded(path: Path, tmp_path: Path) -> None:
    # GIVEN an example WHEN it runs in an empty folder THEN its output is the recorded one
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    extra = NEEDS.get(path.stem)
    if extra is not None and find_spec(extra) is None:
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf".* extra {extra}: pip install 'kvatlas\[{extra}\]'\n", done.stderr)
        return
    assert done.returncode == 0, done.stderr
    recorded = (EXPECTED / f"{path.stem}.txt").read_text(encoding="utf-8")
    assert done.stdout.splitlines() == recorded.splitlines()
    assert not list(tmp_path.iterdir())


def test_every_example_is_recorded_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {path.stem for path in EXPECTED.glob("*.txt")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}.py" not in listed] == []


def test_the_engine_loop_stays_short() -> None:
    lines = (EXAMPLES / "toy_engine_loop.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
