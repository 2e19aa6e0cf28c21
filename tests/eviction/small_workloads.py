"""Small random workloads: prompts that share prefixes, as trees of symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from kvatlas.jit import COMPILED
from kvatlas.workload import Workload

__all__ = ["SPAN", "block_paths", "examples", "make_workload", "prompts"]

SPAN = 4
"""Tokens per identity."""

Prompt = tuple[tuple[int, ...], int]
"""The symbols of a prompt, one per span, and how many tokens its last span lacks."""


def prompts(most: int = 40, symbols: int = 3, longest: int = 7) -> st.SearchStrategy[list[Prompt]]:
    """Draw prompts over few symbols, so that many share a prefix."""
    path = st.lists(st.integers(0, symbols - 1), min_size=1, max_size=longest).map(tuple)
    return st.lists(st.tuples(path, st.integers(0, SPAN - 1)), min_size=1, max_size=most)


def make_workload(
    drawn: Sequence[Prompt], *, outputs: Sequence[int] | None = None, gap_s: float = 0.0
) -> Workload:
    """Return the prompts as a workload, one request each, in order."""
    number: dict[tuple[object, ...], int] = {}
    ids: list[int] = []
    offsets = [0]
    for path, lacking in drawn:
        for end in range(1, len(path) + 1):
            # A partial span is another content than a full one that begins alike.
            cut = lacking if end == len(path) else 0
            ids.append(number.setdefault((*path[:end], -cut), len(number)))
        offsets.append(len(ids))
    rows = len(drawn)
    prompt = [len(path) * SPAN - lacking for path, lacking in drawn]
    zeros = np.zeros(rows, np.int32)
    workload = Workload(
        name="small",
        source="drawn",
        arrival_s=np.arange(rows, dtype=np.float64) * gap_s,
        prompt_tokens=np.array(prompt, np.int32),
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


def block_paths(
    workload: Workload, block_size: int, count_partial: bool = False
) -> list[list[tuple[int, int]]]:
    """Return each prompt's blocks as (identity at its end, part of it): equal if contents are."""
    paths = []
    for row in range(workload.num_requests):
        prompt = int(workload.prompt_tokens[row])
        ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
        count = -(-prompt // block_size) if count_partial else prompt // block_size
        path = []
        for block in range(count):
            last = min((block + 1) * block_size, prompt) - 1
            path.append((ids[last // SPAN], last % SPAN // block_size if block_size < SPAN else 0))
        paths.append(path)
    return paths


def examples(count: int) -> int:
    """Return how many examples to try: a tenth of them where kernels are plain Python."""
    return count if COMPILED else max(2, count // 10)
