"""The registry: which eviction policies there are, and what each of them promises.

Owns: names, one sentence and source of each. Leaves to others: what they do (`_keys_kernel`,
`_queues_kernel`, `_sessions_kernel`), chosen by `code` in compiled code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvatlas.eviction import _state_kernel as codes
from kvatlas.registry import Strategy, named

__all__ = ["OPTIMUM", "POLICIES", "EvictionPolicy", "policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionPolicy(Strategy):
    """One way to choose which cached block is lost next.

    Attributes:
        by_leaf: only blocks that nothing cached hangs from are evicted, so no cached prefix ever
            has a hole; the others may leave holes, and what lies behind a hole serves no hit.
    """

    by_leaf: bool


_LLAMA_3_8B_CROSSOVER_TOKENS = 30_630.0
"""Tokens of context at which attention costs a token as much as everything else.

2 FLOPs per parameter and token (8.03e9 parameters) against 4 per layer, hidden dimension and token
of context (32 layers, 4,096): 16.06e9 / 524,288.
"""

_ALL = (
    EvictionPolicy(
        name="lru",
        title="LRU",
        summary="the block unused for longest; of one request the deepest first, as vLLM frees it",
        source="vLLM's free queue",
        by_leaf=True,
        code=codes.LRU,
    ),
    EvictionPolicy(
        name="fifo",
        title="FIFO",
        summary="the block cached first, however often it was hit since",
        source="first in, first out",
        by_leaf=False,
        code=codes.FIFO,
    ),
    EvictionPolicy(
        name="lfu",
        title="LFU by leaf",
        summary="the leaf that the fewest requests have ever used, ties by LRU",
        source="least frequently used",
        by_leaf=True,
        code=codes.LFU,
    ),
    EvictionPolicy(
        name="2q",
        title="2Q",
        summary="a FIFO for newcomers (25%), an LRU for what comes back after leaving it",
        source="Johnson and Shasha, VLDB 1994",
        by_leaf=False,
        code=codes.TWO_Q,
        knobs={"first_share": 0.25, "ghost_share": 0.5},
    ),
    EvictionPolicy(
        name="s3-fifo",
        title="S3-FIFO",
        summary="a small FIFO (10%) that lets through what is hit twice, a main one, and ghosts",
        source="Yang et al., SOSP 2023",
        by_leaf=False,
        code=codes.S3_FIFO,
        knobs={"first_share": 0.1},
    ),
    EvictionPolicy(
        name="sieve",
        title="SIEVE",
        summary="a FIFO whose hand passes over what was hit since it last came by",
        source="Zhang et al., NSDI 2024",
        by_leaf=False,
        code=codes.SIEVE,
    ),
    EvictionPolicy(
        name="one-hit-first",
        title="One hit first",
        summary="leaves that one request alone has ever used go before all others, each by LRU",
        source="kvatlas",
        by_leaf=True,
        code=codes.ONE_HIT_FIRST,
    ),
    EvictionPolicy(
        name="compute-aware",
        title="Compute-aware",
        summary="GreedyDual by the FLOPs that a block saves: deep blocks cost more attention",
        source="Cao and Irani, USITS 1997 (GreedyDual-Size), with prefill FLOPs as the cost",
        by_leaf=True,
        code=codes.COMPUTE_AWARE,
        knobs={"crossover_tokens": _LLAMA_3_8B_CROSSOVER_TOKENS},
    ),
    EvictionPolicy(
        name="session-aware",
        title="Session-aware",
        summary="the leaf least likely to be continued, learnt by turn number and idle time",
        source="kvatlas",
        by_leaf=True,
        code=codes.SESSION_AWARE,
    ),
    EvictionPolicy(
        name="return-rate",
        title="Return rate",
        summary="the leaf whose kind returns at the lowest rate at its age, as learnt; else LRU's",
        source="kvatlas",
        by_leaf=True,
        code=codes.RETURN_RATE,
    ),
)

POLICIES: Mapping[str, EvictionPolicy] = {policy.name: policy for policy in _ALL}
"""Every policy that an engine can run, by name; `lru` is vLLM's own order."""

OPTIMUM = EvictionPolicy(
    name="optimum",
    title="Optimum",
    summary="the block whose next use is farthest, deepest first: no policy hits more",
    source="Belady, IBM Systems Journal 1966",
    by_leaf=True,
    code=codes.OPTIMUM,
)
"""It needs the future, so only the prefix-only driver runs it."""


def policy(name: str) -> EvictionPolicy:
    """Return the policy of that name. Raises: InputError that lists those there are."""
    return named(POLICIES, name, "eviction policy", field="eviction_policy")
