"""Running the command line: in this process, where kernels are compiled once, or in its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvatlas.cli.__main__ import run

HASHED = '{{"timestamp": {at}, "input_length": {tokens}, "output_length": 4, "hash_ids": {ids}}}'


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote to standard output, as JSON."""
        return json.loads(self.out)


def kvatlas(*args: object) -> Done:
    """Run a command in this process."""
    out, err = io.BytesIO(), io.BytesIO()
    with (
        contextlib.redirect_stdout(io.TextIOWrapper(out, encoding="utf-8")) as stdout,
        contextlib.redirect_stderr(io.TextIOWrapper(err, encoding="utf-8")) as stderr,
    ):
        code = run([str(arg) for arg in args])
        stdout.flush()
        stderr.flush()
        return Done(code, out.getvalue().decode(), err.getvalue().decode())


def replayed(*args: object) -> Any:
    """Run `kvatlas replay` and return its JSON."""
    done = kvatlas("replay", *args, "--json", "-")
    assert (done.code, done.err) == (0, "")
    return done.json


def process(
    args: Sequence[object], *, code: str = "", env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in a process of its own, after running the Python `code` in it."""
    start = f"{code}\nfrom kvatlas.cli.__main__ import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


def hashed_trace(path: Path, requests: int = 3, *, tokens: int = 600) -> Path:
    """Write a Mooncake trace whose prompts share their first 512 tokens."""
    blocks = -(-tokens // 512)
    rows = (
        HASHED.format(at=1000 * i, tokens=tokens, ids=[0, *range(10 * i + 1, 10 * i + blocks)])
        for i in range(requests)
    )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
