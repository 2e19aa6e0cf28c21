"""What each kind of attention still reads.

Owns: the tokens that a group may forget. Leaves to others: forgetting them (`tables`).
Mirrors `get_num_skipped_tokens` of the managers in v1/core/single_type_kv_cache_manager.py,
vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import CHUNKED, MAMBA_ALIGN, MAMBA_NONE, SLIDING
from kvatlas.jit import inlined
from kvatlas.records import Records


@inlined
def cdiv(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return (a + b - 1) // b


@inlined
def num_skipped_tokens(groups: Records, group: int, computed: int) -> int:
    """Return how many leading tokens attention no longer reads (`get_num_skipped_tokens`)."""
    kind = groups[group].kind
    if kind == SLIDING:
        return int(max(0, computed - groups[group].window + 1))
    if kind == CHUNKED:
        return int(computed // groups[group].window * groups[group].window)
    if kind == MAMBA_NONE or kind == MAMBA_ALIGN:
        return computed - 1
    return 0
