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
VARIANTS = ("host_tier", "memory_budget", "placement")  # those that compile engines of their own


def recorded(path: Path) -> list[str]:
    """Return the lines that an example prints."""
    return (EXPECTED / f"{path.stem}.txt").read_text(encoding="utf-8").splitlines()


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
    run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == recorded(path)
    assert not list(tmp_path.iterdir())


def test_an_example_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    # GIVEN one of them WHEN it runs as a user runs it THEN it says the same
    path = EXAMPLES / "replay_trace.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == recorded(path)
    assert not list(tmp_path.iterdir())


def test_every_example_is_recorded_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {path.stem for path in EXPECTED.glob("*.txt")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}.py" not in listed] == []


def test_the_engine_loop_stays_short() -> None:
    lines = (EXAMPLES / "toy_engine_loop.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
