"""Rules about preemption: work thrown away because running requests found no block.

Owns: their data. Leaves to others: firing (`rule`), order (`kvatlas.plan.rules`).
"""

from __future__ import annotations

from kvatlas.plan.rules.changes import FCFS, FEWER_SEATS, TWICE_BLOCKS, WATERMARK, WHOLE_PROMPTS
from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["PREEMPTION_RULES"]

PREEMPTION_RULES: tuple[Rule, ...] = (
    Rule(
        name="preemption-storm",
        means="Requests lose their blocks again and again.",
        tone="act",
        clauses=(
            Clause(
                "preemption.per_request",
                "at least",
                0.2,
                "one request in five is no accident: more are admitted than fit",
            ),
        ),
        title="More requests are admitted than fit: {preemption.count:count} preemptions among "
        "{workload.requests:count} requests",
        evidence=(
            "{preemption.waste:share} of all tokens were computed a second time.",
            "Requests owned {usage.time_weighted:share} of the pool on average, "
            "{running.time_weighted:count} of them at a time.",
        ),
        changes=(FEWER_SEATS, WATERMARK, WHOLE_PROMPTS, FCFS, TWICE_BLOCKS),
        moves=("preemption.count",),
        gain=Gain("preemption.waste", 1.0, "each such token was computed twice"),
    ),
    Rule(
        name="preemption-waste",
        means="Work is thrown away when requests lose their blocks.",
        tone="act",
        clauses=(
            Clause(
                "preemption.waste",
                "at least",
                0.01,
                "below one token in a hundred it is lost in the noise of serving",
            ),
        ),
        title="{preemption.waste:share} of all tokens were computed twice, after preemptions",
        evidence=(
            "{preemption.count:count} preemptions threw away what the cache did not give back.",
            "{preemption.wasted_tokens:count} tokens had to be computed again.",
        ),
        changes=(WATERMARK, FEWER_SEATS, WHOLE_PROMPTS, TWICE_BLOCKS),
        moves=("preemption.waste",),
        gain=Gain("preemption.waste", 1.0, "each such token was computed twice"),
        silenced_by=("preemption-storm",),
    ),
    Rule(
        name="decode-pressure",
        means="Answers grow into a full pool: running requests find no block for the next token.",
        tone="watch",
        clauses=(
            Clause(
                "refused.decode_per_request",
                "at least",
                0.02,
                "one refusal in fifty requests: rarer ones are chance",
            ),
            Clause("free.share", "at most", 0.2, "the pool must be full for answers to press"),
        ),
        title="Answers outgrow the pool: {allocation.failed_decode:count} times no block was left "
        "for a next token",
        evidence=(
            "Requests owned {usage.time_weighted:share} of the pool on average; each refusal "
            "preempts one ({preemption.count:count} in all).",
        ),
        changes=(WATERMARK, FEWER_SEATS, TWICE_BLOCKS),
        moves=("allocation.failed_running",),
        gain=Gain("refused.decode_per_request", 0.1, "a preemption costs at least a wait"),
        silenced_by=("preemption-storm", "preemption-waste"),
    ),
)
