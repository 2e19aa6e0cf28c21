"""Small workloads over few symbols, so that many prompts share a beginning."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from kvatlas.workload import Workload

__all__ = ["SPAN", "Path", "random_paths", "workload_of"]

SPAN = 4
"""Tokens per identity, and per block where the tests do not say otherwise."""

Path = tuple[int, ...]


def random_paths(
    rng: random.Random, count: int, *, symbols: int = 3, longest: int = 6
) -> list[Path]:
    """Draw prompts as symbols, one per span."""
    return [
        tuple(rng.randrange(symbols) for _ in range(rng.randint(1, longest))) for _ in range(count)
    ]


def workload_of(
    paths: Sequence[Path], *, lacking: int = 1, outputs: Sequence[int] | None = None
) -> Workload:
    """Return the prompts as a workload; the last span of each lacks some tokens."""
    number: dict[tuple[int, ...], int] = {}
    ids: list[int] = []
    offsets = [0]
    for path in paths:
        for end in range(1, len(path) + 1):
            cut = lacking if end == len(path) else 0
            ids.append(number.setdefault((*path[:end], -cut - 1), len(number)))
        offsets.append(len(ids))
    rows = len(paths)
    zeros = np.zeros(rows, np.int32)
    workload = Workload(
        name="tiny",
        source="drawn",
        arrival_s=np.zeros(rows),
        prompt_tokens=np.array([len(path) * SPAN - lacking for path in paths], np.int32),
        output_tokens=np.array(outputs if outputs is not None else [1] * rows, np.int32),
        tokens_per_id=SPAN,
        ids=np.array(ids, np.int32),
        id_offsets=np.array(offsets, np.int64),
        num_ids=len(number),
        prefix_known=True,
        outputs_identified=False,
        session=np.full(rows, -1, np.int32),
        parent=np.full(rows, -1, np.int32),
        priority=zeros,
        salt=zeros,
    )
    workload.check()
    return workload
