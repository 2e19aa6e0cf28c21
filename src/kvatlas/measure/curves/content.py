"""How much of the prompts was ever seen before, to the token: what no cache of prefixes can pass.

Owns: the content bound. Leaves to others: what whole blocks make of it (`study`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload import Workload

__all__ = ["seen_prompt_tokens"]

I64 = NDArray[np.int64]


def seen_prompt_tokens(workload: Workload, *, with_outputs: bool = False) -> I64:
    """Return per request (N,) the leading prompt tokens whose prefix an earlier request had. O(M).

    No rounding to blocks, and the last token counts too; as fine as the trace's identities are.

    Args:
        workload: whose prefixes are known.
        with_outputs: answers count as seen, where the trace identifies them.
    """
    prompt = workload.prompt_tokens.astype(np.int64)
    span = workload.tokens_per_id
    counts = np.diff(workload.id_offsets)
    if not with_outputs:
        counts = np.minimum(counts, -(-prompt // span))
    seen = _leading_seen(workload.ids, workload.id_offsets, counts, workload.num_ids)
    return np.minimum(seen * span, prompt)


def _leading_seen(ids: NDArray[Any], offsets: NDArray[np.int64], counts: I64, num_ids: int) -> I64:
    """Return how many of the first `counts` identities of each request came up before it.

    Identities are chained: once one is new, all after it are.
    """
    rows = counts.size
    row_of = np.repeat(np.arange(rows), counts)
    at = np.arange(row_of.size) + np.repeat(offsets[:-1] - np.cumsum(counts) + counts, counts)
    used = ids[at]
    first_row = np.full(num_ids, rows, np.int64)
    # Later assignments win, so the first request is written last.
    first_row[used[::-1]] = row_of[::-1]
    return np.bincount(row_of[first_row[used] < row_of], minlength=rows).astype(np.int64)
