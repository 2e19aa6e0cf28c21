"""`agents`: coding agents in tool loops, with subagents; long contexts and heavy sharing.

Every request of an agent starts with the system prompt and tool definitions of its kind, then the
instructions of a project that many sessions share, then a task. Each step the model writes a call,
the tool's result is appended and the whole context is sent again. Now and then a call starts a
subagent: a loop of its own under another system prompt, on the same project; its caller waits.

Statistics (checked in tests/workload/test_generators.py), before the context limit ends loops:
* steps: geometric with means `mean_steps` and `mean_subagent_steps`; every step but a session's
  last starts a subagent with `subagent_probability`.
* calls, results, tasks and tool times: lognormal with the stated means.
* kinds are equally likely, projects Zipf with `project_exponent`; sessions start as a Poisson
  process. The workload is the first `num_requests` calls: the last sessions are cut off.

With the defaults about 95% of the prompt tokens of 2,000 requests were seen before. Contexts are
long (1,100 identities a request), so a million requests need 5 GB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
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

__all__ = ["AgentsKnobs", "agents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsKnobs:
    """Knobs of `agents`."""

    num_requests: int = knob(2000, "requests", "calls in all", at_least=1, at_most=50_000_000)
    sessions_per_s: float = knob(0.25, "1/s", "rate at which sessions start", above=0)
    mean_steps: float = knob(16.0, "steps", "mean calls of a session's own loop", at_least=1)
    subagent_probability: float = knob(0.05, "", "of a step", at_least=0, at_most=1)
    mean_subagent_steps: float = knob(6.0, "steps", "mean calls of a subagent", at_least=1)
    num_kinds: int = knob(3, "kinds", "agents with their own prompt", at_least=1, at_most=10**6)
    num_projects: int = knob(40, "projects", "shared instructions", at_least=1, at_most=10**6)
    project_exponent: float = knob(1.0, "", "Zipf exponent of the projects", at_least=0)
    system_tokens: int = knob(8000, "tokens", "system prompt and tools of a kind", at_least=1)
    subagent_tokens: int = knob(3000, "tokens", "system prompt of a kind's subagents", at_least=1)
    project_tokens: float = knob(2000.0, "tokens", "mean instructions of a project", at_least=1)
    task_tokens: float = knob(400.0, "tokens", "mean length of a task", at_least=1)
    result_tokens: float = knob(800.0, "tokens", "mean length of a tool's result", at_least=1)
    result_sigma: float = knob(1.2, "", "spread of the results (of their logarithm)", at_least=0)
    output_tokens: float = knob(150.0, "tokens", "mean length of a call", at_least=1)
    tool_s: float = knob(4.0, "s", "mean run time of a tool", above=0)
    output_tokens_per_s: float = knob(50.0, "tokens/s", "assumed speed of a call", above=0)
    max_context_tokens: int = knob(65536, "tokens", "a longer loop ends", at_least=16)

    def __post_init__(self) -> None:
        if max(self.system_tokens, self.subagent_tokens) > self.max_context_tokens // 4:
            raise InputError(
                "must be at least four times the system prompts",
                field="max_context_tokens",
                value=self.max_context_tokens,
            )


def agents(knobs: AgentsKnobs, rng: np.random.Generator) -> Draft:
    """Draw the calls: O(N), vectorised over all sessions."""
    per_session = knobs.mean_steps + (
        (knobs.mean_steps - 1) * knobs.subagent_probability * knobs.mean_subagent_steps
    )
    step_s = knobs.tool_s + knobs.output_tokens / knobs.output_tokens_per_s
    running = knobs.sessions_per_s * step_s * per_session
    sessions = int(1.1 * (knobs.num_requests / per_session + running)) + 16
    while True:
        # By the start of session N + 1 there are N arrivals, so more are never needed.
        sessions = min(sessions, knobs.num_requests + 1)
        draft = _draw(knobs, rng, sessions)
        if draft is not None:
            return draft
        sessions *= 2


@dataclass(frozen=True, slots=True)
class _Loops:
    """C loops of calls, end to end: per loop the root segment, per call its sizes and times."""

    root: NDArray[np.int64]
    chain: NDArray[np.int64]
    starts: NDArray[np.int64]
    new_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    gap_s: NDArray[np.float64]

    @property
    def last(self) -> NDArray[np.int64]:
        """Return the last row of each loop."""
        return np.append(self.starts[1:], self.chain.size) - 1


def _draw(knobs: AgentsKnobs, rng: np.random.Generator, sessions: int) -> Draft | None:
    """Return the calls of this many sessions; None when a later session could come in between."""
    kinds, projects = knobs.num_kinds, knobs.num_projects
    longest = knobs.max_context_tokens // 8
    # Segments: a root per kind, a root per kind's subagents, then a project under each of these.
    root_tokens = np.repeat([knobs.system_tokens, knobs.subagent_tokens], kinds)
    project_tokens = lognormal_tokens(rng, knobs.project_tokens, 0.5, projects, longest)
    shared_parent = np.append(
        np.full(2 * kinds, -1), np.repeat(np.arange(2 * kinds), projects)
    ).astype(np.int64)
    shared_tokens = np.append(root_tokens, np.tile(project_tokens, 2 * kinds)).astype(np.int64)

    kind = rng.integers(kinds, size=sessions)
    project = zipf_choice(rng, projects, knobs.project_exponent, sessions)
    own_root = 2 * kinds + kind * projects + project
    main = _loops(knobs, rng, own_root, shared_parent, shared_tokens, knobs.mean_steps)
    spawns = rng.random(main.chain.size) < knobs.subagent_probability
    spawns[main.last] = False
    caller = np.flatnonzero(spawns)
    sub_root = own_root[main.chain[caller]] + kinds * projects
    sub = _loops(knobs, rng, sub_root, shared_parent, shared_tokens, knobs.mean_subagent_steps)

    # A caller waits for its subagent as it waits for a tool.
    waited_s = np.bincount(sub.chain, weights=sub.gap_s, minlength=caller.size)
    gap_s = main.gap_s.copy()
    answer_s = main.output_tokens / knobs.output_tokens_per_s
    gap_s[caller] = answer_s[caller] + waited_s
    start_s = poisson_arrivals(rng, knobs.sessions_per_s, sessions)
    main_s = start_s[main.chain] + before_in_chain(gap_s, main.chain, main.starts)
    sub_start_s = main_s[caller] + answer_s[caller]
    sub_s = sub_start_s[sub.chain] + before_in_chain(sub.gap_s, sub.chain, sub.starts)

    arrival_s = np.append(main_s, sub_s)
    if not arrivals_complete(arrival_s, start_s[-1], knobs.num_requests):
        return None
    session = np.append(main.chain, main.chain[caller][sub.chain])
    previous = np.arange(session.size) - 1
    previous[main.starts] = -1
    previous[main.chain.size + sub.starts] = caller
    return Draft(
        num_requests=knobs.num_requests,
        arrival_s=arrival_s,
        output_tokens=np.append(main.output_tokens, sub.output_tokens),
        leaf=shared_parent.size + np.arange(session.size),
        segment_parent=np.concatenate(
            [
                shared_parent,
                _chained(main, shared_parent.size),
                _chained(sub, shared_parent.size + main.chain.size),
            ]
        ),
        segment_tokens=np.concatenate(
            [
                shared_tokens,
                main.new_tokens + main.output_tokens,
                sub.new_tokens + sub.output_tokens,
            ]
        ),
        note="synthetic coding agents: loops that send their whole context at every step",
        outputs_identified=True,
        session=session,
        previous=previous,
    )


def _chained(loops: _Loops, first_segment: int) -> NDArray[np.int64]:
    """Return the parents of the loops' segments, one per call, numbered from `first_segment`."""
    parent = first_segment + np.arange(loops.chain.size) - 1
    parent[loops.starts] = loops.root
    return parent


def _loops(
    knobs: AgentsKnobs,
    rng: np.random.Generator,
    root: NDArray[np.int64],
    shared_parent: NDArray[np.int64],
    shared_tokens: NDArray[np.int64],
    mean_steps: float,
) -> _Loops:
    """Draw one loop under each of the segments in `root` (C,)."""
    longest = knobs.max_context_tokens // 8
    chain, starts = chain_numbers(rng.geometric(1 / mean_steps, root.size))
    rows = chain.size
    new = lognormal_tokens(rng, knobs.result_tokens, knobs.result_sigma, rows, longest)
    new[starts] = lognormal_tokens(rng, knobs.task_tokens, 0.8, root.size, longest)
    output = lognormal_tokens(rng, knobs.output_tokens, 0.8, rows, longest)
    gap_s = output / knobs.output_tokens_per_s + lognormal(rng, knobs.tool_s, 1.0, rows)
    prefix = shared_tokens[root] + shared_tokens[shared_parent[root]]
    context = prefix[chain] + before_in_chain(new + output, chain, starts) + new + output
    # The first call always fits: prompts of a quarter, project, task and call of an eighth each.
    kept = np.flatnonzero(context <= knobs.max_context_tokens)
    chain, starts = chain_numbers(np.bincount(chain[kept], minlength=root.size))
    return _Loops(root, chain, starts, new[kept], output[kept], gap_s[kept])
