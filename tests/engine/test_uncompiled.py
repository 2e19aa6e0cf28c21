"""The same tests pass with every kernel as plain Python (`NUMBA_DISABLE_JIT=1`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.mark.slow
def test_state_machines_pass_uncompiled() -> None:
    """GIVEN no compiler WHEN the state machines and the embedding tests run THEN they pass."""
    files = ["test_pool_machine.py", "test_manager_machine.py", "test_scheduling.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *(str(HERE / name) for name in files)],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
