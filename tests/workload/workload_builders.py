"""Small workloads and trace files for the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from kvatlas.workload import Workload, chain_ids


def public_trace(name: str) -> Path:
    """Return a public trace in `KVATLAS_TRACES` or `../shared/traces`; without it, skip."""
    given = os.environ.get("KVATLAS_TRACES")
    repository = Path(__file__).resolve().parents[2]
    folder = Path(given) if given else repository.parent / "shared" / "traces"
    if not (folder / name).exists():
        pytest.skip(f"the public trace {name} is not on this machine (looked in {folder})")
    return folder / name


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSON lines (or given text lines) and return the path."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def mooncake_row(
    timestamp: float, tokens: int, ids: Sequence[int], output: int = 5
) -> dict[str, Any]:
    """One request as Mooncake writes it."""
    return {
        "timestamp": timestamp,
        "input_length": tokens,
        "output_length": output,
        "hash_ids": list(ids),
    }


def workload(
    prompts: Sequence[int],
    raw: Sequence[Sequence[int]] | None,
    *,
    span: int = 16,
    outputs: Sequence[int] | None = None,
    with_outputs: bool = False,
    salts: Sequence[int] | None = None,
    parents: Sequence[int] | None = None,
) -> Workload:
    """Build a workload by hand; `raw` None makes it length-only."""
    rows = len(prompts)
    salt = np.array(salts if salts is not None else [0] * rows, dtype=np.int32)
    counts = [0] * rows if raw is None else [len(ids) for ids in raw]
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    flat = np.array([] if raw is None else [k for ids in raw for k in ids], dtype=np.int64)
    ids, num_ids = chain_ids(flat, offsets, salt)
    parent = np.array(parents if parents is not None else [-1] * rows, dtype=np.int32)
    session = np.arange(rows, dtype=np.int32)
    for row in range(rows):
        if parent[row] >= 0:
            session[row] = session[parent[row]]
    return Workload(
        name="made",
        source="by hand",
        arrival_s=np.arange(rows, dtype=np.float64) / 4,
        prompt_tokens=np.array(prompts, dtype=np.int32),
        output_tokens=np.array(outputs if outputs is not None else [3] * rows, dtype=np.int32),
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        prefix_known=raw is not None,
        outputs_identified=with_outputs,
        session=np.unique(session, return_inverse=True)[1].astype(np.int32),
        parent=parent,
        priority=np.zeros(rows, dtype=np.int32),
        salt=salt,
        notes=("made for a test",),
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw a valid workload, its identities shared or not, length-only or with outputs."""
    prompts = draw(st.lists(st.integers(1, 60), max_size=12))
    rows = len(prompts)
    outputs = [draw(st.integers(1, 40)) for _ in range(rows)]
    with_outputs = draw(st.booleans())
    known = draw(st.booleans())
    span = draw(st.sampled_from([1, 7, 16]))
    raw = None
    if known:
        covered = [p + (o if with_outputs else 0) for p, o in zip(prompts, outputs, strict=True)]
        raw = [
            draw(st.lists(st.integers(0, 2), min_size=-(-c // span), max_size=-(-c // span)))
            for c in covered
        ]
    parents = [draw(st.integers(-1, row - 1)) for row in range(rows)]
    return workload(
        prompts,
        raw,
        span=span,
        outputs=outputs,
        with_outputs=known and with_outputs,
        salts=[draw(st.integers(0, min(2, rows))) for _ in range(rows)],
        parents=parents,
    )


def same(a: Workload, b: Workload) -> bool:
    """Say whether two workloads are equal in every field, column types included."""
    for name in Workload.__slots__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            if left.dtype != right.dtype or not np.array_equal(left, right):
                return False
        elif left != right:
            return False
    return True
