"""How much of the prompts was ever seen before: what no cache of prefixes can pass.

Owns: the content bound. Leaves to others: what whole blocks make of it (`study`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves.paths import Paths
from kvatlas.measure.curves.reuse_runs import reuse_runs

__all__ = ["seen_prompt_tokens"]

I64 = NDArray[np.int64]


def seen_prompt_tokens(paths: Paths) -> I64:
    """Return per request (N,) the leading prompt tokens whose prefix an earlier request had.

    No rounding to blocks, and the last token counts too; as fine as the trace's identities are.
    Answers count as seen where `paths` has outputs and the trace identifies them. Another pass over
    the trace, with every identity a block: O((N + S) log N).
    """
    workload = paths.workload
    prompt = workload.prompt_tokens.astype(np.int64)
    counts = np.diff(workload.id_offsets)
    if not paths.with_outputs:
        counts = np.minimum(counts, -(-prompt // workload.tokens_per_id))
    counts = counts.astype(np.int32)
    whole = replace(
        paths,
        block_size=workload.tokens_per_id,
        arrays=paths.arrays._replace(
            identified=counts, blocks=counts, ids_per_block=1, blocks_per_id=1
        ),
    )
    return np.minimum(reuse_runs(whole).seen.astype(np.int64) * workload.tokens_per_id, prompt)
