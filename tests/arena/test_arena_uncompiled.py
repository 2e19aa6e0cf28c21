"""The same tests pass with every kernel as plain Python (`NUMBA_DISABLE_JIT=1`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_arenas_pass_uncompiled() -> None:
    """GIVEN no compiler WHEN the tests run, but for the long ones, THEN they pass."""
    files = ["test_arena_model.py", "test_arena_pools.py", "test_arena_compaction.py"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x"),
            *(str(HERE / name) for name in files),
            *("-k", "not million and not naive_ones and not threads and not refills"),
        ],
        cwd=HERE.parent.parent,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
