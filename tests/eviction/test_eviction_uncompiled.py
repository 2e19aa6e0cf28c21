"""The same tests pass with every kernel as plain Python (`NUMBA_DISABLE_JIT=1`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_ALIKE = ("lfu", "fifo", "2q", "compute")  # others run the same kernels
_LONG = ("free_queue", "recorded", "groups", "long_runs", "followed")
_QUICK = " and ".join(f"not {name}" for name in (*_ALIKE, *_LONG))


@pytest.mark.slow
def test_policies_pass_uncompiled() -> None:
    """GIVEN no compiler WHEN definitions, promises and the embedded classes run THEN they pass."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x"),
            *(str(HERE / name) for name in ("test_prefix_only.py", "test_embedded.py")),
            *(str(HERE / "test_engine.py"), "-k", _QUICK),
        ],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
