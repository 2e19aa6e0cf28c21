"""Why prompt tokens were missed, judged while the engine runs.

Owns: the verdict at a first admission, and who cached a key first. Leaves to others: what a stream
of events says of it, also with several groups (`kvatlas.measure.misses`, which agrees).

Only one full-attention group is judged: elsewhere a block that is not hit may be one that nobody
needs.
"""

from __future__ import annotations

from kvatlas.engine.kernels.identity import fill_keys
from kvatlas.engine.kernels.state import Engine
from kvatlas.jit import kernel
from kvatlas.records import Record

_PIECE = 64
"""Keys that are made at a time."""


@kernel
def judge(engine: Engine, totals: Record, row: int, hit: int) -> None:
    """Give every missed token of `row`, just admitted for the first time, its cause; O(missed).

    A key counts as seen when another request cached it before. Cold: never seen. Capacity: seen and
    gone. Granularity: what a lookup never asks for, the last token and what shares its block.
    """
    tokens, block_size = int(engine.requests[row].num_tokens), int(engine.config.hash_block)
    full = tokens // block_size
    asked = (tokens - 1) // block_size
    own = row + 1
    first = hit // block_size
    cold = seen = 0
    last_is_cold = False
    while first < full:
        count = min(_PIECE, full - first)
        fill_keys(engine, row, block_size, first, count)
        for i in range(count):
            by = engine.seen[engine.keys[i]]
            last_is_cold = by == 0 or by == own
            if last_is_cold:
                cold += block_size
            elif first + i < asked:
                seen += block_size
        first += count
    if last_is_cold:
        cold += tokens - full * block_size
    totals.missed += tokens - hit
    totals.missed_cold += cold
    totals.missed_capacity += seen
