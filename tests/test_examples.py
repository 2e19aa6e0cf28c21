"""Every example prints what is recorded beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXPECTED = EXAMPLES / "expected"
NEEDS = {"paged_llama": "torch"}  # examples that need an extra
AS_A_USER = ("replay_trace", "memory_monitor")
"""In a process of its own: one to see that they run there, one that measures its process."""
VARIANTS = ("host_tier", "memory_budget", "placement")  # those that compile engines of their own


ALL = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.variants] if path.stem in VARIANTS else [])
    for path in sorted(EXAMPLES.glob("*.py"))
]


@pytest.mark.parametrize("path", ALL)
def test_example_prints_what_is_recorded(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # GIVEN an example WHEN it runs in an empty folder THEN its output is the recorded one
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    extra = NEEDS.get(path.stem)
    if extra is not None and find_spec(extra) is None:
        with pytest.raises(SystemExit) as refused:
            run_path(str(path), run_name="__main__")
        assert capsys.readouterr().out == ""
        expected = rf".* extra {extra}: pip install 'kvatlas\[{extra}\]'"
        assert re.fullmatch(expected, str(refused.value.code))
        return
    if path.stem in AS_A_USER:
        said = said_alone(path, tmp_path)
    else:
        run_path(str(path), run_name="__main__")
        said = capsys.readouterr().out
    recorded = (EXPECTED / f"{path.stem}.txt").read_text(encoding="utf-8")
    assert said.splitlines() == recorded.splitlines()
    assert not list(tmp_path.iterdir())


def said_alone(path: Path, folder: Path) -> str:
    """Return what an example prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_recorded_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {path.stem for path in EXPECTED.glob("*.txt")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}.py" not in listed] == []


def test_the_engine_loop_stays_short() -> None:
    lines = (EXAMPLES / "toy_engine_loop.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
