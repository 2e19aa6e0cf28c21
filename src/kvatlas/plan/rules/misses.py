"""Rules about what the prefix cache misses, and why; and about a cache that misses little.

Owns: their data. Leaves to others: firing (`rule`), order (`kvatlas.plan.rules`).
"""

from __future__ import annotations

from kvatlas.plan.rules.changes import (
    CACHE_ON,
    FEWER_SEATS,
    FINE_BLOCKS,
    HALF_BLOCK_SIZE,
    HALF_BUDGET,
    NO_ASYNC,
    TWICE_BLOCKS,
)
from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["MISS_RULES"]

_HITS = ("prefix.token_hit_rate",)

MISS_RULES: tuple[Rule, ...] = (
    Rule(
        name="caching-off",
        means="The prefix cache is off although prompts share beginnings.",
        tone="act",
        clauses=(
            Clause("setting.prefix_caching", "at most", 0, "the cache is off"),
            Clause(
                "prefix.ceiling_token_hit_rate",
                "at least",
                0.02,
                "below one prompt token in fifty the saving is lost in the noise of serving",
            ),
        ),
        title="Prefix caching is off, though {prefix.ceiling_token_hit_rate:share} of the prompt "
        "tokens repeat an earlier prompt",
        evidence=(
            "A cache that never evicts would answer {prefix.ceiling_hit_tokens:count} prompt "
            "tokens, {prefix.ceiling_token_hit_rate:share} of all.",
        ),
        changes=(CACHE_ON,),
        moves=("decisions.scheduled_tokens", "clock.simulated_s"),
        gain=Gain("prefix.ceiling_token_hit_rate", 1.0, "each hit is a prompt token not computed"),
    ),
    Rule(
        name="capacity-bound",
        means="The cache is too small: content is evicted before it is asked for again.",
        tone="act",
        clauses=(
            Clause(
                "lost.capacity",
                "at least",
                0.05,
                "below one prompt token in twenty, more memory buys less than it costs",
            ),
            Clause(
                "attribution.capacity",
                "at least",
                0.1,
                "where nine of ten missed tokens have other causes, those come first",
            ),
        ),
        title="The cache is too small: evictions cost {lost.capacity:share} of all prompt tokens",
        evidence=(
            "{prefix.token_hit_rate:share} of the prompt tokens were found in the cache; one that "
            "never evicts would find {prefix.ceiling_token_hit_rate:share}.",
            "{attribution.capacity:share} of the missed tokens had been in the cache and were "
            "evicted before they were asked for again.",
            "{prefix.evicted_premature_blocks:count} of {prefix.evicted_blocks:count} evicted "
            "blocks were asked for again later.",
        ),
        changes=(TWICE_BLOCKS, FEWER_SEATS),
        moves=_HITS,
        whither="up",
        gain=Gain("lost.capacity", 1.0, "each such token was computed again"),
        refuted_title="Evictions cost {lost.capacity:share} of all prompt tokens, but the changes "
        "tried do not win them back",
    ),
    Rule(
        name="policy-gap",
        means="Much of what is missed would be hit at this pool size, if evictions were perfect.",
        tone="watch",
        clauses=(
            Clause(
                "lost.policy",
                "at least",
                0.05,
                "a policy that cannot see the future wins a part of it only",
            ),
            Clause(
                "lost.capacity",
                "at least",
                0.05,
                "where evictions cost little, it does not matter which blocks they take",
            ),
        ),
        title="A perfect eviction policy would hit {lost.policy:share} more of the prompt tokens "
        "at this pool size",
        evidence=(
            "Of caches of this size LRU alone hits {prefix.lru_token_hit_rate:share}, the optimum "
            "{prefix.optimum_token_hit_rate:share}.",
        ),
        advice="`kvatlas policies` says how much of that real eviction policies win on this trace.",
        gain=Gain("lost.policy", 0.25, "about what a good policy wins of it"),
    ),
    Rule(
        name="premature-evictions",
        means="Many evicted blocks are asked for again, though they hold few tokens in all.",
        tone="watch",
        clauses=(
            Clause(
                "evicted.premature_share",
                "at least",
                0.1,
                "least-recently-used eviction errs now and then; a tenth is more than that",
            ),
            Clause(
                "lost.capacity",
                "at least",
                0.02,
                "below one prompt token in fifty the saving is lost in the noise of serving",
            ),
        ),
        title="{evicted.premature_share:share} of the evicted blocks were asked for again",
        evidence=(
            "{prefix.evicted_premature_blocks:count} of {prefix.evicted_blocks:count} evicted "
            "blocks; they cost {lost.capacity:share} of all prompt tokens.",
        ),
        changes=(FEWER_SEATS, TWICE_BLOCKS),
        moves=_HITS,
        whither="up",
        gain=Gain("lost.capacity", 1.0, "each such token was computed again"),
        silenced_by=("capacity-bound",),
    ),
    Rule(
        name="granularity-loss",
        means="Blocks are so large that shared beginnings end inside one and are lost.",
        tone="act",
        clauses=(
            Clause(
                "lost.granularity",
                "at least",
                0.02,
                "below one prompt token in fifty the finer blocks cost more bookkeeping than they "
                "save",
            ),
            Clause(
                "setting.block_size",
                "at least",
                32,
                "at 16 tokens the rounding is as fine as vLLM makes it",
            ),
        ),
        title="Blocks of {setting.block_size:count} tokens are too large: rounding to whole blocks "
        "costs {lost.granularity:share} of all prompt tokens",
        evidence=(
            "{attribution.granularity:share} of the missed tokens were in the cache's reach, but "
            "inside a block that was not shared as a whole.",
            "{prefix.token_hit_rate:share} of the prompt tokens were found in the cache.",
        ),
        changes=(FINE_BLOCKS, HALF_BLOCK_SIZE),
        moves=_HITS,
        whither="up",
        gain=Gain("lost.granularity", 1.0, "each such token was computed again"),
    ),
    Rule(
        name="computed-side-by-side",
        means="Requests that share a beginning run side by side, so that each computes it.",
        tone="watch",
        clauses=(
            Clause(
                "lost.side_by_side",
                "at least",
                0.03,
                "below one prompt token in thirty the changes cost more than they save",
            ),
        ),
        title="Requests that share a beginning run side by side: each computes it, "
        "{lost.side_by_side:share} of all prompt tokens in vain",
        evidence=(
            "{prefix.token_hit_rate:share} of the prompt tokens were found in the cache; an engine "
            "that serves one request after the other and never evicts would find "
            "{prefix.ceiling_token_hit_rate:share}. Evictions cost {lost.capacity:share} of all "
            "prompt tokens; the rest was asked for before it was there.",
            "{prefix.duplicate_blocks_mean:count} blocks on average held what another block held.",
        ),
        changes=(HALF_BUDGET, FEWER_SEATS, NO_ASYNC),
        moves=_HITS,
        whither="up",
        gain=Gain("lost.side_by_side", 1.0, "each such token was computed twice"),
        refuted_title="Requests that share a beginning run side by side, and none of the changes "
        "tried keeps them apart at a fair price",
    ),
    Rule(
        name="cold-traffic",
        means="Almost every missed token was never seen before: no cache can help.",
        tone="good",
        clauses=(
            Clause(
                "attribution.cold",
                "at least",
                0.9,
                "the other causes together are a tenth at most",
            ),
            Clause(
                "lost.cold",
                "at least",
                0.5,
                "otherwise the cache answers most of the traffic, and cold is what remains",
            ),
        ),
        title="The cache cannot do much for this traffic, so leave it: {lost.cold:share} of the "
        "prompt tokens are new",
        evidence=(
            "{attribution.cold:share} of the missed tokens had never been seen before.",
            "{prefix.token_hit_rate:share} were found in the cache; one that never evicts would "
            "find {prefix.ceiling_token_hit_rate:share}.",
        ),
        gain=Gain("lost.cold", 0.0, "there is nothing to gain"),
    ),
    Rule(
        name="cache-at-its-ceiling",
        means="The cache finds nearly all that an unbounded one would find.",
        tone="good",
        clauses=(
            Clause(
                "ceiling.reached", "at least", 0.95, "less than a twentieth of the hits is missing"
            ),
            Clause(
                "prefix.ceiling_token_hit_rate",
                "at least",
                0.05,
                "where hardly anything repeats, reaching the ceiling says little",
            ),
        ),
        title="The cache finds nearly all there is to find: {prefix.token_hit_rate:share} of the "
        "prompt tokens",
        evidence=(
            "A cache that never evicts would find {prefix.ceiling_token_hit_rate:share}: more "
            "memory for it would bring next to nothing on this traffic.",
        ),
        gain=Gain("ceiling.reached", 0.0, "there is nothing to gain"),
        silenced_by=("cold-traffic", "capacity-bound", "premature-evictions"),
    ),
)
