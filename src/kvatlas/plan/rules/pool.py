"""Rules about the pool as a whole: its size, its slots, and a run that needs no change.

Owns: their data. No rule reads external fragmentation (free runs, EFI): in a pool of equal blocks
any free block serves, and no allocation ever fails for lack of contiguity.
"""

from __future__ import annotations

from kvatlas.plan.rules.changes import FINE_BLOCKS, HALF_BLOCK_SIZE, HALF_BLOCKS
from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["POOL_RULES"]

POOL_RULES: tuple[Rule, ...] = (
    Rule(
        name="internal-waste",
        means="Many slots of the blocks that requests own hold no token.",
        tone="act",
        clauses=(
            Clause(
                "waste.internal_time_weighted",
                "at least",
                0.05,
                "half a block per request is what any block size wastes; a twentieth is more",
            ),
            Clause(
                "waste.of_pool_share",
                "at least",
                0.02,
                "in a pool that stands mostly empty the slots are not missed",
            ),
            Clause(
                "setting.block_size",
                "at least",
                32,
                "at 16 tokens the rounding is as fine as vLLM makes it",
            ),
        ),
        title="{waste.internal_time_weighted:share} of the slots that requests own hold no token: "
        "blocks of {setting.block_size:count} are too large for them",
        evidence=(
            "{waste.internal_mean_slots:count} empty slots on average, "
            "{waste.of_pool_share:share} of the whole pool.",
        ),
        changes=(FINE_BLOCKS, HALF_BLOCK_SIZE),
        moves=("waste.internal_time_weighted",),
        gain=Gain("waste.of_pool_share", 1.0, "memory that could hold tokens"),
    ),
    Rule(
        name="pool-oversized",
        means="Requests never owned half of the pool, and hardly anything was evicted.",
        tone="act",
        clauses=(
            Clause("usage.peak", "at most", 0.5, "half of the pool would have served the peak"),
            Clause("allocation.blocks", "at least", 1, "a pool that nobody used says nothing"),
            Clause(
                "evicted.share",
                "at most",
                0.01,
                "a cache that evicts uses its room, whatever requests own",
            ),
        ),
        title="The pool is larger than this traffic needs: requests never owned more than "
        "{usage.peak:share} of it",
        evidence=(
            "{prefix.evicted_blocks:count} cached blocks were evicted in "
            "{allocation.blocks:count} allocations.",
            "A longer or busier trace may need more.",
        ),
        changes=(HALF_BLOCKS,),
        moves=("prefix.token_hit_rate", "clock.simulated_s"),
        whither="keep",
        gain=Gain("free.at_peak_share", 0.1, "memory that is free brings nothing by itself"),
        refuted_title="Requests never own more than {usage.peak:share} of the pool, but its cache "
        "uses the rest: leave it",
        refuted_tone="good",
    ),
    Rule(
        name="healthy",
        means="Nothing else is worth a change.",
        tone="good",
        clauses=(
            Clause("preemption.waste", "at most", 0.01, "computed twice: below what one notices"),
            Clause("usage.peak", "at most", 1, "the run must have been measured"),
        ),
        title="Healthy: nothing here asks for another setting",
        evidence=(
            "Requests owned at most {usage.peak:share} of the pool.",
            "{preemption.count:count} preemptions, {preemption.waste:share} of the tokens computed "
            "twice.",
            "{prefix.token_hit_rate:share} of the prompt tokens were found in the cache; one that "
            "never evicts would find {prefix.ceiling_token_hit_rate:share}.",
        ),
        gain=Gain("preemption.waste", 0.0, "there is nothing to gain"),
        alone=True,
    ),
)
