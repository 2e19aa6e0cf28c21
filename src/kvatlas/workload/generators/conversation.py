"""`conversation`: multi-turn chat, the built-in workload of `kvatlas replay` without a trace.

Users talk to a few apps, each with its own system prompt. Sessions start as a Poisson process. A
turn's prompt is the prompt before it, plus the answer to that, plus new text; it arrives once the
answer was written (at an assumed speed) and the user has thought. The answers are known, so a next
turn can reuse the blocks that the turn before filled while decoding.

Statistics (checked in tests/workload/test_generators.py), before the context limit ends sessions:
* turns per session: geometric, mean `mean_turns`. The workload is the first `num_requests` turns,
  so the sessions still running at its end are cut off, as in a recorded trace.
* new text, answers, system prompts, think times: lognormal with the stated means; lengths are
  clipped to a quarter of `max_context_tokens`.
* starts of sessions: exponential gaps (CV 1). The rate of turns climbs from `sessions_per_s` to
  `sessions_per_s * mean_turns` while the first sessions fill up.
* apps: Zipf with `app_exponent`.

With the defaults and seed 0: 2,000 turns of 700 sessions in 346 s, 3.05 M prompt tokens (mean
1,523), 0.55 M of output, 66,770 identities, 83% of the prompt tokens seen before. Real vLLM 0.32
with 20,000 blocks of 16 tokens, 256 sequences and 8,192 tokens a step serves 71% of them from its
cache and preempts 30 times when all arrive at once (`backlog`), 79% and never at their own times
(`timed`); each way it evicts more than 50,000 cached blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvatlas.workload.generators.draft import (
    Draft,
    arrivals_complete,
    before_in_chain,
    chain_numbers,
    lognormal,
    lognormal_tokens,
    poisson_arrivals,
    zipf_choice,
)
from kvatlas.workload.generators.knobs import knob

__all__ = ["ConversationKnobs", "conversation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationKnobs:
    """Knobs of `conversation`."""

    num_requests: int = knob(2000, "requests", "turns in all", at_least=1, at_most=50_000_000)
    sessions_per_s: float = knob(2.0, "1/s", "rate at which sessions start", above=0)
    mean_turns: float = knob(3.5, "turns", "mean turns of a session", at_least=1)
    num_apps: int = knob(8, "apps", "system prompts in use", at_least=1, at_most=1_000_000)
    app_exponent: float = knob(1.0, "", "Zipf exponent of the apps' popularity", at_least=0)
    system_tokens: float = knob(400.0, "tokens", "mean length of a system prompt", at_least=1)
    user_tokens: float = knob(250.0, "tokens", "mean new text of a turn", at_least=1)
    user_sigma: float = knob(1.2, "", "spread of the new text (of its logarithm)", at_least=0)
    output_tokens: float = knob(270.0, "tokens", "mean length of an answer", at_least=1)
    output_sigma: float = knob(0.8, "", "spread of the answers (of their logarithm)", at_least=0)
    think_s: float = knob(20.0, "s", "mean time from an answer to the next turn", above=0)
    think_sigma: float = knob(1.0, "", "spread of the think times (of their logarithm)", at_least=0)
    output_tokens_per_s: float = knob(50.0, "tokens/s", "assumed speed of an answer", above=0)
    max_context_tokens: int = knob(32768, "tokens", "a longer session ends", at_least=16)


def conversation(knobs: ConversationKnobs, rng: np.random.Generator) -> Draft:
    """Draw the turns: O(N log N), some 3 s for a million with their 139 million ids."""
    turn_s = knobs.think_s + knobs.output_tokens / knobs.output_tokens_per_s
    running = knobs.sessions_per_s * turn_s * knobs.mean_turns
    sessions = int(1.1 * (knobs.num_requests / knobs.mean_turns + running)) + 64
    while True:
        # By the start of session N + 1 there are N arrivals, so more are never needed.
        sessions = min(sessions, knobs.num_requests + 1)
        draft = _draw(knobs, rng, sessions)
        if draft is not None:
            return draft
        sessions *= 2


def _draw(knobs: ConversationKnobs, rng: np.random.Generator, sessions: int) -> Draft | None:
    """Return the turns of this many sessions; None when a later session could come in between."""
    longest = knobs.max_context_tokens // 4
    system_tokens = lognormal_tokens(rng, knobs.system_tokens, 0.5, knobs.num_apps, longest)
    app = zipf_choice(rng, knobs.num_apps, knobs.app_exponent, sessions)
    session, starts = chain_numbers(rng.geometric(1 / knobs.mean_turns, sessions))
    rows = session.size
    user_tokens = lognormal_tokens(rng, knobs.user_tokens, knobs.user_sigma, rows, longest)
    output_tokens = lognormal_tokens(rng, knobs.output_tokens, knobs.output_sigma, rows, longest)
    think_s = lognormal(rng, knobs.think_s, knobs.think_sigma, rows)
    start_s = poisson_arrivals(rng, knobs.sessions_per_s, sessions)

    # Contexts only grow along a session, so what fits is always its first turns.
    turn_tokens = user_tokens + output_tokens
    context_tokens = system_tokens[app][session] + before_in_chain(turn_tokens, session, starts)
    kept = np.flatnonzero(context_tokens + turn_tokens <= knobs.max_context_tokens)
    session, starts = chain_numbers(np.bincount(session[kept]))
    turn_tokens, output_tokens, think_s = turn_tokens[kept], output_tokens[kept], think_s[kept]
    rows = kept.size

    gap_s = output_tokens / knobs.output_tokens_per_s + think_s
    arrival_s = start_s[session] + before_in_chain(gap_s, session, starts)
    if not arrivals_complete(arrival_s, start_s[-1], knobs.num_requests):
        return None
    # Segments: [0, apps) the system prompts, then one per turn: its new text and its answer.
    leaf = knobs.num_apps + np.arange(rows)
    parent = leaf - 1
    parent[starts] = app
    previous = np.arange(rows) - 1
    previous[starts] = -1
    return Draft(
        num_requests=knobs.num_requests,
        arrival_s=arrival_s,
        output_tokens=output_tokens,
        leaf=leaf,
        segment_parent=np.concatenate([np.full(knobs.num_apps, -1), parent]),
        segment_tokens=np.concatenate([system_tokens, turn_tokens]),
        note="synthetic chat: a later turn's prompt holds the earlier prompts and their answers",
        outputs_identified=True,
        session=session,
        previous=previous,
    )
