"""Rules about waiting: what holds requests up.

Owns: their data. Leaves to others: firing (`rule`), order (`kvatlas.plan.rules`).

Admission ends at the first of three limits: blocks (the head of the queue is refused), seats
(`--max-num-seqs`) and tokens per step. Where requests wait and two limits are not reached, it is
the third.
"""

from __future__ import annotations

from kvatlas.plan.rules.changes import (
    ADMIT_BY_CHUNK,
    CAP_LONG_PROMPTS,
    MORE_SEATS,
    NO_WATERMARK,
    PRIORITY,
    TWICE_BLOCKS,
    TWICE_BUDGET,
)
from kvatlas.plan.rules.rule import Clause, Gain, Rule

__all__ = ["WAITING_RULES"]

_WAITING = ("queue.time_mean_s", "clock.simulated_s")

_SOMEBODY_WAITS = Clause(
    "queue.length_time_weighted", "at least", 1, "on average somebody must wait for it to matter"
)
_BLOCKS_SUFFICE = Clause(
    "queue.head_refused_share",
    "at most",
    0.05,
    "where the head is refused for lack of blocks, memory is the limit",
)
_HEAD_REFUSED = Clause(
    "queue.head_refused_share",
    "at least",
    0.05,
    "below a twentieth of the time the queue hardly feels it",
)
_SEATS_LEFT = Clause(
    "seats.share",
    "at most",
    0.5,
    "a mean hides the moments in which all seats are taken; below half they are rare",
)

WAITING_RULES: tuple[Rule, ...] = (
    Rule(
        name="head-of-line-blocking",
        means="A large request at the head of the queue holds up smaller ones that would fit.",
        tone="act",
        clauses=(
            Clause(
                "head_of_line.share",
                "at least",
                0.05,
                "below a twentieth of the time the queue hardly feels it",
            ),
        ),
        title="A large request at the head of the queue holds up others that would fit, "
        "{head_of_line.share:share} of the time",
        evidence=(
            "During {queue.head_of_line_s:span} of {clock.simulated_s:span} the first in the queue "
            "was refused, while a later one would have fitted.",
            "{queue.length_time_weighted:count} requests waited on average.",
        ),
        changes=(ADMIT_BY_CHUNK, PRIORITY, TWICE_BLOCKS),
        moves=_WAITING,
        gain=Gain("head_of_line.share", 0.5, "what fits in between is a part of the work"),
        refuted_title="A large request at the head of the queue holds up others that would fit, "
        "{head_of_line.share:share} of the time, but the changes tried save no time",
    ),
    Rule(
        name="watermark-refusals",
        means="The watermark keeps blocks free that a waiting request could use.",
        tone="act",
        clauses=(
            Clause("setting.watermark", "at least", 0.001, "there must be a watermark"),
            _HEAD_REFUSED,
            Clause("free.share", "at least", 0.02, "blocks must have been free"),
        ),
        title="The watermark refuses requests although {free.share:share} of the blocks are free "
        "or evictable",
        evidence=(
            "The head of the queue was refused {queue.head_refused_share:share} of the time; the "
            "watermark is {setting.watermark:share} of the pool.",
        ),
        changes=(NO_WATERMARK,),
        moves=_WAITING,
        gain=Gain("queue.head_refused_share", 0.25, "a wait costs time, not work"),
        refuted_title="The watermark keeps {setting.watermark:share} of the pool free; without it "
        "nothing gets better",
        refuted_tone="good",
    ),
    Rule(
        name="reserved-prompts",
        means="A prompt must fit as a whole before its first chunk is computed.",
        tone="act",
        clauses=(
            Clause("setting.reserve_full_isl", "at least", 1, "the reservation must be on"),
            Clause("setting.watermark", "at most", 0, "a watermark would explain it, too"),
            Clause(
                "queue.head_refused_share",
                "at least",
                0.1,
                "below a tenth of the time the reservation costs little",
            ),
            Clause("free.share", "at least", 0.1, "a tenth of the pool must have been free"),
        ),
        title="Prompts are refused until they fit as a whole, although {free.share:share} of the "
        "blocks are free or evictable",
        evidence=(
            "The head of the queue was refused {queue.head_refused_share:share} of the time.",
        ),
        changes=(ADMIT_BY_CHUNK,),
        moves=_WAITING,
        gain=Gain("queue.head_refused_share", 0.25, "a wait costs time, not work"),
        silenced_by=("head-of-line-blocking",),
        refuted_title="Prompts are refused until they fit as a whole; admitting them earlier makes "
        "nothing better",
        refuted_tone="good",
    ),
    Rule(
        name="seats-bound",
        means="`--max-num-seqs` keeps requests waiting while memory is free.",
        tone="act",
        clauses=(
            Clause("seats.share", "at least", 0.9, "nearly all seats must be taken"),
            Clause("free.share", "at least", 0.3, "more seats need blocks of their own"),
            _SOMEBODY_WAITS,
            _BLOCKS_SUFFICE,
        ),
        title="Requests wait for a seat while {free.share:share} of the blocks are free or "
        "evictable",
        evidence=(
            "{running.time_weighted:count} of at most {setting.max_num_seqs:count} requests ran on "
            "average, {queue.length_time_weighted:count} waited.",
        ),
        changes=(MORE_SEATS,),
        moves=_WAITING,
        gain=Gain("waiting.share", 0.25, "a wait costs time, not work"),
    ),
    Rule(
        name="long-prompt-monopoly",
        means="Single long prompts take whole steps for themselves while short ones wait.",
        tone="act",
        clauses=(
            Clause(
                "prompts.longest_in_steps",
                "at least",
                2,
                "the longest prompt must fill more than one step",
            ),
            Clause(
                "prompts.longest_over_median",
                "at least",
                8,
                "where all prompts are alike, nobody waits for a long one",
            ),
            Clause("setting.long_prefill_token_threshold", "at most", 0, "no such limit yet"),
            _SEATS_LEFT,
            _SOMEBODY_WAITS,
            _BLOCKS_SUFFICE,
        ),
        title="Long prompts take whole steps for themselves: the longest is "
        "{prompts.longest_over_median:count} times the median",
        evidence=(
            "It has {workload.longest_prompt_tokens:count} tokens, a step has "
            "{setting.max_num_batched_tokens:count}; {queue.length_time_weighted:count} requests "
            "waited on average, not for blocks and not for seats.",
        ),
        changes=(CAP_LONG_PROMPTS, TWICE_BUDGET),
        moves=("latency.ttft_mean_s", "clock.simulated_s"),
        gain=Gain("waiting.share", 0.25, "a wait costs time, not work"),
    ),
    Rule(
        name="token-budget-bound",
        means="Requests wait for their prompts' turn: steps are full of tokens.",
        tone="act",
        clauses=(_SEATS_LEFT, _SOMEBODY_WAITS, _BLOCKS_SUFFICE),
        title="Steps of {setting.max_num_batched_tokens:count} tokens are full: requests wait for "
        "neither blocks nor seats",
        evidence=(
            "{queue.length_time_weighted:count} requests waited on average, "
            "{running.time_weighted:count} of at most {setting.max_num_seqs:count} ran; the head "
            "was refused for lack of blocks {queue.head_refused_share:share} of the time.",
        ),
        changes=(TWICE_BUDGET,),
        moves=_WAITING,
        gain=Gain("waiting.share", 0.2, "a wait costs time, not work; longer steps cost others"),
        silenced_by=("long-prompt-monopoly",),
        refuted_title="Steps are full of tokens, but larger ones do not help",
    ),
)
