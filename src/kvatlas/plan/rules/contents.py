"""Rules about what the prefix cache holds in vain.

Owns: their data. Leaves to others: firing (`rule`), order (`kvatlas.plan.rules`).
"""

from __future__ import annotations

from kvatlas.plan.rules.changes import FEWER_SEATS, HALF_BUDGET, NO_ASYNC, TWICE_BLOCKS
from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["CONTENT_RULES"]

_HITS = ("prefix.token_hit_rate",)

CONTENT_RULES: tuple[Rule, ...] = (
    Rule(
        name="duplicate-blocks",
        means="Requests that started together computed and hold the same content twice.",
        tone="watch",
        clauses=(
            Clause(
                "duplicates.share",
                "at least",
                0.05,
                "below one block in twenty the room would not be felt",
            ),
        ),
        title="{duplicates.share:share} of the pool holds content that another block holds, too",
        evidence=(
            "{prefix.duplicate_blocks_mean:count} duplicate blocks on average: requests with equal "
            "beginnings were computed side by side.",
        ),
        changes=(HALF_BUDGET, FEWER_SEATS, NO_ASYNC),
        moves=_HITS,
        whither="up",
        gain=Gain("duplicates.share", 0.5, "room for other content, of which a part is used again"),
        silenced_by=("computed-side-by-side",),
    ),
    Rule(
        name="stranded-blocks",
        means="Cached blocks that nothing can reach, as a block before them was evicted.",
        tone="watch",
        clauses=(
            Clause(
                "stranded.share",
                "at least",
                0.05,
                "below one block in twenty the room would not be felt",
            ),
        ),
        title="{stranded.share:share} of the pool is cached but out of reach: an earlier block of "
        "the prefix is gone",
        evidence=(
            "{prefix.stranded_blocks_mean:count} stranded blocks on average; they leave only when "
            "their turn of eviction comes.",
        ),
        changes=(FEWER_SEATS, TWICE_BLOCKS),
        moves=_HITS,
        whither="up",
        gain=Gain("stranded.share", 0.5, "room for other content, of which a part is used again"),
    ),
    Rule(
        name="pollution-by-session",
        means="One session fills the cache with content that nobody asks for again.",
        tone="watch",
        clauses=(
            Clause(
                "prefix.pollution_top_session_share",
                "at least",
                0.25,
                "one session that causes a quarter of the waste is worth a look of its own",
            ),
            Clause(
                "prefix.pollution_share",
                "at least",
                0.5,
                "while most evicted blocks are asked for again, room is the problem",
            ),
            Clause(
                "lost.capacity",
                "at least",
                0.02,
                "where evictions cost nothing, the polluted room is not needed",
            ),
        ),
        title="One session fills the cache with content that nobody asks for again: "
        "{prefix.pollution_top_session_share:share} of such blocks are its own",
        evidence=(
            "{prefix.pollution_share:share} of the evicted blocks were never asked for again.",
            "Evictions cost {lost.capacity:share} of all prompt tokens.",
        ),
        gain=Gain("lost.capacity", 0.25, "what the room would bring is unknown: a part of it"),
        advice="No flag of the engine limits one session's share of the cache: send it to a server "
        "of its own, or shorten its prompts.",
    ),
)
