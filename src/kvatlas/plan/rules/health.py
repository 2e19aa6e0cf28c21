"""What is well: said when little is wrong, so that a reader knows what to leave alone.

Owns: their data. They fill a verdict up to its least length and never push another finding out.
"""

from __future__ import annotations

from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["HEALTH_RULES"]

_NOTHING = "there is nothing to gain"

HEALTH_RULES: tuple[Rule, ...] = (
    Rule(
        name="mostly-cold",
        means="Most of what was missed had never been seen: no cache of any size would have it.",
        tone="good",
        clauses=(
            Clause("attribution.cold", "at least", 0.5, "more than the other causes together"),
        ),
        title="{attribution.cold:share} of the missed prompt tokens were new: no cache can have "
        "them, whatever its size",
        evidence=(
            "{lost.cold:share} of all prompt tokens had never been seen before.",
            "An unbounded cache would find {prefix.ceiling_token_hit_rate:share}.",
        ),
        gain=Gain("lost.cold", 0.0, _NOTHING),
        silenced_by=("cold-traffic",),
    ),
    Rule(
        name="slots-well-used",
        means="The blocks that requests own are full: their size is no matter.",
        tone="good",
        clauses=(
            Clause(
                "waste.internal_time_weighted", "at most", 0.02, "one slot in fifty is not missed"
            ),
        ),
        title="Blocks of {setting.block_size:count} tokens waste next to nothing: "
        "{waste.internal_time_weighted:share} of the slots held are empty",
        evidence=("{waste.internal_mean_slots:count} empty slots on average.",),
        gain=Gain("waste.internal_time_weighted", 0.0, _NOTHING),
    ),
    Rule(
        name="few-preemptions",
        means="Hardly anything was computed twice.",
        tone="good",
        clauses=(
            Clause("preemption.waste", "at most", 0.002, "two tokens in a thousand are not felt"),
        ),
        title="Preemption costs next to nothing: {preemption.waste:share} of the tokens were "
        "computed twice",
        evidence=("{preemption.count:count} preemptions in {workload.requests:count} requests.",),
        gain=Gain("preemption.waste", 0.0, _NOTHING),
    ),
    Rule(
        name="queue-not-held-up",
        means="The queue hardly ever waits for blocks.",
        tone="good",
        clauses=(
            Clause(
                "queue.head_refused_share", "at most", 0.02, "one fiftieth of the time is not felt"
            ),
        ),
        title="Admission hardly ever waits for memory: {queue.head_refused_share:share} of the "
        "time",
        evidence=(
            "{queue.length_time_weighted:count} requests wait on average, "
            "{running.time_weighted:count} run.",
        ),
        gain=Gain("queue.head_refused_share", 0.0, _NOTHING),
    ),
)
